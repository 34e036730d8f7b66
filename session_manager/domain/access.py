"""The callers of the front door, the sessions that each may reach, and with which right.

The kinds of callers are closed: code that decides by kind matches all of them. A statement of the store that takes an
``Access`` applies it in its own WHERE clause, so that a change of rights and a write cannot both win. None never means
"all sessions": the front door's own work passes ``EVERYTHING``.

Operations on what the sessions of a user share in an app of ADK (``adk_user_state``, and the artifacts whose names
begin with ``user:``) reach what belongs to the user in their parameters. ADK's routes take that user from the path or
body of the request, after a check that the caller may act for the user.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Self, TypeAlias, assert_never

from session_manager.domain.message import Attempt


class Right(StrEnum):
    """An action that a caller may take on a session."""

    READ = "read"
    WRITE = "write"  # send messages and cancel them
    WAKE = "wake"  # wake the pod, put it to sleep, keep it awake
    MANAGE = "manage"  # rename, delete


Classes: TypeAlias = frozenset[str] | None
"""The SessionClasses that a caller sees and uses, by name; None: all of them."""


@dataclass(frozen=True, slots=True)
class Everything:
    """All sessions, with all rights: for a service that acts for no user, and for the front door's own loops."""

    classes: Classes = None


@dataclass(frozen=True, slots=True)
class OwnedBy:
    """The sessions of one user, with all rights."""

    user: str
    classes: Classes = None


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


def sees(access: Access, user: str, class_name: str) -> bool:
    """Return True if a session of this user and class, neither of which ever changes, exists for ``access``.

    The turn of a pod is not decided here: it may end at any time, so a statement of the store decides it.
    """
    match access:
        case Everything(classes):
            return classes is None or class_name in classes
        case OwnedBy(owner, classes):
            return user == owner and (classes is None or class_name in classes)
        case OneSession():
            return True
        case Nothing():
            return False
        case _:
            assert_never(access)


class _Kind:
    """The answers of a caller without any privilege.

    One caller is made for each request. They are not frozen, because that takes three times as long.
    """

    __slots__ = ()

    @property
    def classes(self) -> Classes:
        return None

    @property
    def admin(self) -> bool:
        """Return True for a caller that may look after the installation: backups, and where its data is."""
        return False

    @property
    def trusted(self) -> bool:
        """Return True for what runs agents: it reads credentials. A service changes what all users of an app share."""
        return self.admin

    @property
    def names_users(self) -> bool:
        """Return True for a caller that acts for the user whom each request names, and is limited per user."""
        return False

    def holder(self, place: str) -> str:
        """Return the key under which the front door counts what it holds for this caller."""
        return self.limit_key(place)

    def limit_key(self, place: str) -> str:
        raise NotImplementedError

    def may_act_for(self, user: str) -> bool:
        return False

    def acting_for(self, user: str) -> Self:
        """Return this caller as it acts for a user whom the request names."""
        return self


@dataclass(slots=True)
class _Keyed(_Kind):
    """A caller that acts for one user, or for any if it names none. ``address`` is the client's."""

    name: str
    address: str
    user: str | None = None
    classes: Classes = None

    @property
    def access(self) -> Access:
        if self.user is None:
            return EVERYTHING if self.classes is None else Everything(self.classes)
        return OwnedBy(self.user, self.classes)

    @property
    def admin(self) -> bool:
        return self.user is None and self.classes is None

    @property
    def trusted(self) -> bool:
        return self.user is None

    @property
    def idempotency_caller(self) -> str:
        """The owner of the caller's Idempotency-Keys, as the database stores it."""
        return self.name if self.user is None else f"{self.name}|{self.user}"

    def limit_key(self, place: str) -> str:
        """Return the key of the caller's rate limits. ``place`` is the session of the request, or empty."""
        return f"{self.name}|{place}" if self.user is None else f"{self.name}|user|{self.user}"

    def may_act_for(self, user: str) -> bool:
        return self.user in (None, user)


@dataclass(slots=True)
class Local(_Keyed):
    """A program on this machine, where no key is configured."""

    def limit_key(self, place: str) -> str:
        return _Keyed.limit_key(self, self.address)

    def holder(self, place: str) -> str:
        """Return a key for each session: programs on this machine may do as much at once as a service."""
        return _Keyed.limit_key(self, place)


@dataclass(slots=True)
class Service(_Keyed):
    """A key that acts for any user. ``name`` is the key's."""

    @property
    def names_users(self) -> bool:
        return self.user is None

    def acting_for(self, user: str) -> Self:
        return replace(self, user=user) if self.user is None else self


@dataclass(slots=True)
class Person(_Keyed):
    """A user, by a key that is bound to that user."""

    user: str


@dataclass(slots=True)
class PodTurn(_Kind):
    """A pod that shows the token of its turn: it reaches that session while the attempt is open.

    ``began``: the start of the attempt, in Unix seconds.
    """

    session: str
    attempt: Attempt
    began: float
    address: str

    @property
    def access(self) -> Access:
        return OneSession(self.session, self.attempt)

    @property
    def trusted(self) -> bool:
        return True

    def limit_key(self, place: str) -> str:
        return f"pod|{self.session}"

    def may_act_for(self, user: str) -> bool:
        """Return True: its token says which session it reaches, so the store decides."""
        return True


@dataclass(slots=True)
class Anonymous(_Kind):
    """A caller without a key, on a route that needs none."""

    address: str

    @property
    def access(self) -> Access:
        return NOTHING

    def limit_key(self, place: str) -> str:
        return f"anonymous|{self.address}"


Caller: TypeAlias = Local | Service | Person | PodTurn | Anonymous
UserCaller: TypeAlias = Local | Service | Person
"""A caller with a key, or a local one: what ordinary routes see."""
