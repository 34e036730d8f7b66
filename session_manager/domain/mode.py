"""What a session's resource in the cluster asks for: sleep when idle, never sleep, or be suspended."""

from __future__ import annotations

from enum import StrEnum
from typing import Protocol


class Mode(StrEnum):
    AUTO = "Auto"
    ALWAYS_ON = "AlwaysOn"  # neither sleeps nor expires
    SUSPENDED = "Suspended"  # takes no messages, and what is queued waits


class Modes(Protocol):
    """Where the mode of a session is looked up."""

    def mode(self, session: str) -> Mode:
        """Unavailable while the cluster has not told which sessions and classes there are."""
        ...


class AllAuto:
    """Where there is no cluster, nobody can ask for another mode."""

    def mode(self, session: str) -> Mode:
        return Mode.AUTO
