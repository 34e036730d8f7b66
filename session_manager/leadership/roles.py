"""The two things that one process at a time leads, in the words of /health, of errors and of logs."""

from __future__ import annotations

from session_manager.domain.errors import AnotherMachine, NotTheWriter
from session_manager.leadership.leadership import PublicState, Role, State

_WAITING = PublicState("waiting", "another instance writes; this one serves requests once that one has stopped", 2)

ONE_WRITER = Role(
    name="writer",
    error=NotTheWriter,
    prepares=True,
    public={
        State.STARTING: _WAITING,
        State.WAITING: _WAITING,
        State.PREPARING: PublicState("opening", "the newest data is being fetched", 2),
        State.LEADING: PublicState("writing", serves=True),
        State.LAPSED: PublicState(
            "lapsed", "the bucket with the lease cannot be reached, so nothing is written; reading works", 5, reads=True
        ),
        State.LOST: PublicState("lost", "another instance has taken over"),
        State.RELEASED: PublicState("released", "the server is stopping; another instance takes over"),
    },
    events={
        State.PREPARING: ("writer.acquired", "this instance acquired the lease"),
        State.LOST: ("writer.lost", "another instance has taken over"),
        State.RELEASED: ("writer.released", "the lease was released"),
    },
    yields=("writer.asked", "another instance asked for the lease and gets it"),
    lost=(
        "Another instance has taken over while this one was stopped or could not reach the bucket; what it had not "
        "stored by then is in its database file only, which is put aside at the next start"
    ),
)
"""The front door that may write to a SQLite database with a bucket."""

ONE_MACHINE = Role(
    name="machine",
    error=AnotherMachine,
    public={
        State.STARTING: PublicState("starting", "Redis has not answered yet which machine runs the pods", reads=True),
        State.WAITING: PublicState(
            "waiting", "another machine runs the pods; this one serves once that one has stopped", 2
        ),
        State.LEADING: PublicState("held", serves=True),
        # Redis is asked again before anything is decided, and its absence has an error of its own.
        State.LAPSED: PublicState("held", serves=True),
        State.LOST: PublicState("lost", "another machine has taken over the pods"),
        State.RELEASED: PublicState("let_go", "the server is stopping; another machine may run the pods", reads=True),
    },
    events={
        State.WAITING: ("machine.waiting", "another machine runs the pods; this one waits until it has stopped"),
        State.LEADING: ("machine.held", "this machine now runs the pods"),
        State.LOST: ("machine.lost", "another machine has taken over the pods"),
        State.RELEASED: ("machine.let_go", "another machine may run the pods now"),
    },
    yields=("machine.asked", "another machine asked for the pods and gets them"),
    lost="Another machine has taken over the pods while this one was stopped or could not reach Redis",
)
"""The machine that runs the pods, where pods are processes that only front doors beside them can reach."""
