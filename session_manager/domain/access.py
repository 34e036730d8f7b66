"""The sessions that a caller may reach, and with which right.

Each statement of the store that works for a caller takes an ``Access`` and applies it in its own WHERE clause, so that
a change of rights and a write cannot both win. None never means "all sessions": the front door's own work passes
``EVERYTHING``.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TypeAlias

from session_manager.domain.message import Attempt


class Right(StrEnum):
    """An action that a caller may take on a session."""

    READ = "read"
    WRITE = "write"  # send messages and cancel them
    WAKE = "wake"  # wake the pod, put it to sleep, keep it awake
    MANAGE = "manage"  # rename, delete


@dataclass(frozen=True, slots=True)
class Everything:
    """All sessions, with all rights: for a service that acts for no user, and for the front door's own loops."""


@dataclass(frozen=True, slots=True)
class OwnedBy:
    """The sessions of one user, with all rights."""

    user: str


@dataclass(frozen=True, slots=True)
class OneSession:
    """The session of a pod's turn, for reading and writing while this attempt is open."""

    uuid: str
    attempt: Attempt


@dataclass(frozen=True, slots=True)
class Nothing:
    """No session at all: for an anonymous caller."""


Access: TypeAlias = Everything | OwnedBy | OneSession | Nothing
EVERYTHING = Everything()
NOTHING = Nothing()
