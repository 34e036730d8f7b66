"""The session record in SQL, and the facts about it in Redis."""

from __future__ import annotations

from dataclasses import dataclass
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
