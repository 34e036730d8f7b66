"""Which sessions a caller may reach, and with which right.

Every statement of the store that works for a caller takes an ``Access`` and applies it in its own WHERE clause, so that
a change of rights and a write cannot both win. There is no "None for everybody": work of the front door itself says
``EVERYTHING``.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TypeAlias


class Right(StrEnum):
    """What somebody may do with a session."""

    READ = "read"
    WRITE = "write"  # send messages and cancel them
    WAKE = "wake"  # wake the pod, put it to sleep, keep it awake
    MANAGE = "manage"  # rename, delete


@dataclass(frozen=True, slots=True)
class Everything:
    """Every session, with every right: a service that acts for no user, and the front door's own loops."""


@dataclass(frozen=True, slots=True)
class OwnedBy:
    """The sessions of one user, with every right."""

    user: str


@dataclass(frozen=True, slots=True)
class OneSession:
    """The session of a pod's turn, for reading and writing."""

    uuid: str


@dataclass(frozen=True, slots=True)
class Nothing:
    """No session: an anonymous caller."""


Access: TypeAlias = Everything | OwnedBy | OneSession | Nothing
EVERYTHING = Everything()
NOTHING = Nothing()
