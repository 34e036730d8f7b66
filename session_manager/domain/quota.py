"""The limits of one user: sessions, pods, messages, stored bytes. 0 switches a limit off."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple


class Quota(NamedTuple):
    """The limits of one user, whom all of their sessions count for.

    ``sessions``: live ones, without deleted and expired ones. ``awake``: pods. ``wakes``: pods that start.
    ``session_messages``: unfinished messages of one session. ``messages``: unfinished messages of all sessions, checked
    for a message that waits behind another one of its session. ``stored``: bytes of messages, replies, events,
    artifacts, memories and the user's state.
    """

    sessions: int = 0
    awake: int = 0
    wakes: int = 0
    session_messages: int = 0
    messages: int = 0
    stored: int = 0


NO_QUOTA = Quota()


class Usage(NamedTuple):
    """The live sessions, unfinished messages and stored bytes of one user."""

    sessions: int
    messages: int
    stored: int


@dataclass(frozen=True, slots=True)
class Quotas:
    """The ``default`` quota of every user, and those of users with others."""

    default: Quota = NO_QUOTA
    named: Mapping[str, Quota] = field(default_factory=dict)

    def of(self, user: str) -> Quota:
        return self.named.get(user, self.default)

    @property
    def smallest(self) -> Quota:
        """The least limit that any user has, for a check that does not know the user."""
        columns = zip(self.default, *self.named.values(), strict=True)
        return Quota(*(min((limit for limit in column if limit), default=0) for column in columns))


NO_QUOTAS = Quotas()
