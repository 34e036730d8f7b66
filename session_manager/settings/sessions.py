"""Sessions and their turns."""

from __future__ import annotations

from dataclasses import dataclass

from session_manager.settings.declared import setting
from session_manager.settings.kinds import TEN_YEARS, seconds, whole_number


@dataclass(frozen=True, slots=True)
class SessionSettings:
    ttl: float = setting(
        "SESSION_TTL", seconds(TEN_YEARS), 86_400.0, "Seconds without activity until a session expires: one day."
    )
    idle_timeout: float = setting(
        "IDLE_TIMEOUT", seconds(TEN_YEARS), 120.0, "Seconds after a turn until the pod sleeps: time to read and answer."
    )
    lease: float = setting(
        "LEASE", seconds(), 15.0, "Seconds a turn's lease is valid. It is renewed three times, so two may fail."
    )
    answer_within: float = setting(
        "ANSWER_WITHIN", seconds(), 30.0, "Seconds until a running turn is answered 202. Less than proxies wait (60)."
    )
    repair_interval: float = setting(
        "REPAIR_INTERVAL",
        seconds(),
        2.0,
        "Seconds between repairs, and the age of messages they check. Each is one query.",
    )
    max_drains: int = setting(
        "MAX_DRAINS", whole_number(100_000), 64, "Sessions whose queues one front door drains at once."
    )
