"""The parts that the classes of this package share."""

from __future__ import annotations

from dataclasses import dataclass, field

from session_manager.activity.protocol import TurnActivity
from session_manager.aio.tasks import Background
from session_manager.domain.histogram import Histogram
from session_manager.domain.mode import Modes
from session_manager.domain.session_class import SessionClasses
from session_manager.people.tokens import Tokens
from session_manager.podclient.protocol import PodClient
from session_manager.store.protocol import Store
from session_manager.tracing.spans import Spans
from session_manager.turns.adk import AdkHistory

DIED = "died"


@dataclass(frozen=True, slots=True)
class Kit:
    """The ports of a front door: durable facts, hot facts, classes and modes of sessions."""

    store: Store
    activity: TurnActivity
    classes: SessionClasses
    modes: Modes


@dataclass(frozen=True, slots=True)
class TurnTimes:
    """Histograms of the seconds that turns waited and took, since the process began.

    ``queue_wait``: from the accept until a pod gets the message for the first time, by the clocks of both machines.
    ``turn``: from then until the pod has answered, was given up, or died. ``lease_wait``: from asking Redis for the
    turn of a session until it is held; ``lease_hold``: from then until it is released.
    """

    queue_wait: Histogram = field(default_factory=Histogram)
    turn: dict[str, Histogram] = field(
        default_factory=lambda: {result: Histogram() for result in ("processed", "failed", DIED)}
    )
    lease_wait: Histogram = field(default_factory=Histogram)
    lease_hold: Histogram = field(default_factory=Histogram)


@dataclass(frozen=True, slots=True)
class TurnTools:
    """The parts that every turn of a process works with. ``late``: updates of Redis that failed and are repeated."""

    pods: PodClient
    tokens: Tokens
    adk_history: AdkHistory
    spans: Spans = field(default_factory=Spans)
    times: TurnTimes = field(default_factory=TurnTimes)
    late: Background = field(default_factory=Background)
