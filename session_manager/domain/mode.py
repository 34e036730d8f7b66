"""What a session's resource in the cluster asks for: sleep when idle, never sleep, or be suspended."""

from __future__ import annotations

from enum import StrEnum
from typing import Protocol

from session_manager.domain.errors import WrongMode


class Mode(StrEnum):
    AUTO = "Auto"
    ALWAYS_ON = "AlwaysOn"  # neither sleeps nor expires
    SUSPENDED = "Suspended"  # takes no messages, and what is queued waits


class Modes(Protocol):
    """Where the mode of a session is looked up."""

    def mode(self, session: str) -> Mode:
        """Unavailable while the cluster has not told which sessions and classes there are."""
        ...


def suspended() -> WrongMode:
    """What a caller reads who wants something of a suspended session."""
    return WrongMode("the session is suspended: it takes messages again when its mode is Auto or AlwaysOn")


def always_on() -> WrongMode:
    return WrongMode("the mode of the session is AlwaysOn: it does not sleep")


class AllAuto:
    """Where there is no cluster, nobody can ask for another mode."""

    def mode(self, session: str) -> Mode:
        return Mode.AUTO
