"""The mode that a session's resource in the cluster asks for: sleep when idle, never sleep, or be suspended."""

from __future__ import annotations

from enum import StrEnum
from typing import Protocol

from session_manager.domain.errors import WrongMode


class Mode(StrEnum):
    AUTO = "Auto"
    ALWAYS_ON = "AlwaysOn"  # neither sleeps nor expires
    SUSPENDED = "Suspended"  # accepts no messages; queued ones wait


class Modes(Protocol):
    """The source of the modes of sessions."""

    def mode(self, session: str) -> Mode:
        """Return the mode. Raises Unavailable until the sessions and classes of the cluster are known."""


def suspended() -> WrongMode:
    """Return the error for a caller who sends a message to a suspended session or wakes it."""
    return WrongMode("the session is suspended: it takes messages again when its mode is Auto or AlwaysOn")


def always_on() -> WrongMode:
    return WrongMode("the mode of the session is AlwaysOn: it does not sleep")


class AllAuto:
    """The modes without a cluster: no session can have another mode than Auto."""

    def mode(self, session: str) -> Mode:
        return Mode.AUTO
