"""The slots of pods: which of the sessions that want a pod may start one now.

A start holds one of ``max_wakes`` slots until its pod answers, and a session one of ``max_awake`` slots as long as it
has a pod.  The quota of a user bounds both for the user's sessions, so that pods of one user that never get ready leave
slots for everybody else.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field

from session_manager.aio.shares import Shares
from session_manager.domain.quota import Quota


@dataclass(slots=True, eq=False)
class Slots:
    """``max_wakes`` starts at once, ``max_awake`` pods (0: any number), and within these the quota of each user."""

    max_wakes: int
    max_awake: int
    quota_of: Callable[[str], Quota]
    _starts: Shares = field(init=False)
    _pods: dict[str, set[str]] = field(init=False, default_factory=dict)  # by user
    _user_of: dict[str, str] = field(init=False, default_factory=dict)  # of each session that has or wants a pod
    _awake: int = field(init=False, default=0)

    def __post_init__(self) -> None:
        self._starts = Shares(self.max_wakes, lambda user: self.quota_of(user).wakes, self._held_back, self._add)

    # -- what the scaler reports ---------------------------------------------------------------------------------------

    def ask(self, session: str, user: str) -> asyncio.Future[None]:
        """Return what is done once the session has its slots. The caller ends it with ``started`` or ``left``."""
        self.left(session)
        self._user_of[session] = user
        return self._starts.ask(session, user)

    def started(self, session: str) -> None:
        """The pod answers, or its start has failed: it needs no slot among the starts any more."""
        self._starts.leave(session)

    def found(self, session: str, user: str) -> None:
        """The session has a pod, also of another program, and waits no longer. One that has its slots keeps them."""
        if session not in self.pods_of(self._user_of.get(session, user)):
            self.left(session)
            self._user_of[session] = user
            self._add(session, user)

    def left(self, session: str) -> None:
        """The session has no pod: it gives back what it has, or no longer waits."""
        user = self._user_of.pop(session, None)
        if user is None:
            return
        if session in self.pods_of(user):
            self._awake -= 1
            self._pods[user].discard(session)
            if not self._pods[user]:
                del self._pods[user]
        self._starts.leave(session)
        self._starts.look_again()

    def _add(self, session: str, user: str) -> None:
        self._pods.setdefault(user, set()).add(session)
        self._awake += 1

    # -- who waits -----------------------------------------------------------------------------------------------------

    def pods_of(self, user: str) -> set[str]:
        """Return the user's sessions that have a pod, or start one."""
        return self._pods.get(user, set())

    def crowded(self) -> dict[str, int]:
        """Return the users at their limit of awake pods of whom sessions wait, with the number of these sessions."""
        return {user: number for user, number in self._starts.waiting().items() if self._at_limit(user)}

    def at_limit(self) -> dict[str, int]:
        """Return the users with as many pods as they may have, with their number."""
        return {user: len(pods) for user, pods in self._pods.items() if self._at_limit(user)}

    def squeezed(self) -> int:
        """Return the number of sessions that wait only because there are ``max_awake`` pods."""
        waiting = self._starts.waiting().items() if self._full else ()
        return sum(number for user, number in waiting if not self._at_limit(user))

    def why(self, session: str) -> str:
        """Return what the session waits for, as a phase that its user reads."""
        user = self._user_of[session]
        if self._at_limit(user):
            return f"waiting until one of the user's awake pods ({len(self.pods_of(user))}) goes to sleep"
        if self._full:
            return f"waiting until one of all awake pods ({self._awake}) goes to sleep"
        return "waiting until another pod has started"

    @property
    def _full(self) -> bool:
        return bool(self.max_awake) and self._awake >= self.max_awake

    def _at_limit(self, user: str) -> bool:
        limit = self.quota_of(user).awake
        return bool(limit) and len(self.pods_of(user)) >= limit

    def _held_back(self, user: str) -> bool:
        return self._full or self._at_limit(user)
