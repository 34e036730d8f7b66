"""The ports and settings that the classes of this package share."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Protocol, Self

from session_manager.activity.protocol import ScalerActivity
from session_manager.domain.session_class import SessionClass, SessionClasses
from session_manager.settings import Settings


class Declared(Protocol):
    """The declarations of the cluster about sessions, which hold whatever Redis knows."""

    def always_on(self) -> Iterable[tuple[str, SessionClass]]:
        """Return the sessions whose mode is AlwaysOn and whose class is known."""
        ...

    def class_name(self, session: str) -> str:
        """Return the name of the session's class, or "" if the session is not known."""
        ...


class NothingDeclared:
    """Without a cluster nothing is declared."""

    def always_on(self) -> Iterable[tuple[str, SessionClass]]:
        return ()

    def class_name(self, session: str) -> str:
        return ""


@dataclass(frozen=True, slots=True)
class ScalerTimes:
    """Seconds. A start that fails is retried after ``retry_first``, doubling up to ``retry_last``.

    ``keep``: between two looks at the sessions that are always on.
    """

    tick: float = 1.0
    heartbeat: float = 5.0
    retry_first: float = 5.0
    retry_last: float = 300.0
    keep: float = 10.0

    @classmethod
    def from_settings(cls, settings: Settings) -> Self:
        return cls(
            tick=min(1.0, settings.sessions.idle_timeout / 4),
            heartbeat=settings.pods.heartbeat,
            retry_first=settings.pods.retry_first,
            retry_last=settings.pods.retry_last,
        )


@dataclass(frozen=True, slots=True)
class ScalerKit:
    """``max_wakes``: pods that may start at the same time."""

    activity: ScalerActivity
    classes: SessionClasses
    times: ScalerTimes
    max_wakes: int
    declared: Declared = field(default_factory=NothingDeclared)
