"""The session record in SQL, the facts about it in Redis, and its status: one pure table of both.

=========  ======  =======  ========  =======  =======
status     wanted  address  expired   failed   woken
=========  ======  =======  ========  =======  =======
awake      yes     yes      any       any      any
waking     yes     no       any       any      any
expired    no      any      yes       any      any
failed     no      any      no        yes      any
sleeping   no      any      no        no       yes
created    no      any      no        no       no
=========  ======  =======  ========  =======  =======

``wanted`` (the id is in Redis ``awake``) and ``address`` are hot; the others are columns of ``session``.
``COLD_SQL`` is the lower half of the table as predicates, so that lists filter, count and page in SQL; a test compares
the two.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple

from session_manager.domain.times import Micros


@dataclass(frozen=True, slots=True)
class Failure:
    """The reason why a pod cannot start, and the time of the next try."""

    reason: str
    remedy: str
    next_try: Micros
    tries: int


class Session(NamedTuple):
    """One row of ``session``. ``expires_at`` = ``last_activity`` + the TTL; a deleted session is never returned."""

    uuid: str
    user_id: str
    app: str
    adk_id: str
    class_name: str
    name: str | None
    created_at: Micros
    last_activity: Micros
    expires_at: Micros
    woken_at: Micros | None = None
    expired_at: Micros | None = None
    failure: Failure | None = None


@dataclass(frozen=True, slots=True)
class Hot:
    """The facts about a session in Redis. ``wanted``: it is in ``awake``. ``address``: a pod answers."""

    wanted: bool = False
    address: bool = False
    phase: str = ""
    queue_length: int = 0
    failure: Failure | None = None
    deadline: Micros | None = None
    running: str | None = None


class Status(StrEnum):
    CREATED = "created"
    WAKING = "waking"
    AWAKE = "awake"
    SLEEPING = "sleeping"
    FAILED = "failed"
    EXPIRED = "expired"


HOT = (Status.WAKING, Status.AWAKE)

COLD_SQL: dict[Status, str] = {
    Status.EXPIRED: "expired_at IS NOT NULL",
    Status.FAILED: "expired_at IS NULL AND failed_at IS NOT NULL",
    Status.SLEEPING: "expired_at IS NULL AND failed_at IS NULL AND woken_at IS NOT NULL",
    Status.CREATED: "expired_at IS NULL AND failed_at IS NULL AND woken_at IS NULL",
}


def cold_status(session: Session) -> Status:
    """Return the status of a session that Redis does not list as awake."""
    if session.expired_at is not None:
        return Status.EXPIRED
    if session.failure is not None:
        return Status.FAILED
    if session.woken_at is not None:
        return Status.SLEEPING
    return Status.CREATED


def status_of(session: Session, hot: Hot) -> Status:
    """Return the status of a session, given the facts in Redis."""
    if hot.wanted:
        return Status.AWAKE if hot.address else Status.WAKING
    if hot.failure is not None and session.expired_at is None:
        # The scaler has written it to Redis, and no front door has committed it yet.
        return Status.FAILED
    return cold_status(session)
