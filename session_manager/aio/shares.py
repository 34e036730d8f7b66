"""Slots that several owners share fairly.

A free slot goes to the owner who holds the fewest, and among those to the one who has waited longest since the last
turn.  The keys of one owner go in the order in which they asked.  So no slot is idle while an owner waits who may have
it, and an owner who asks more often, or later, delays another one once at most.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import count


@dataclass(slots=True, eq=False)
class _Owner:
    """``waiting``: keys in their order, with what they wait for. ``turn``: the lower, the earlier it is served."""

    turn: int = 0
    holding: set[str] = field(default_factory=set)
    waiting: dict[str, asyncio.Future[None]] = field(default_factory=dict)


def _unlimited(owner: str) -> int:
    return 0


def _never(owner: str) -> bool:
    return False


def _ignore(key: str, owner: str) -> None:
    """Do nothing."""


@dataclass(slots=True, eq=False)
class Shares:
    """``slots`` altogether, of which an owner has at most ``most_of(owner)``; 0: any number.

    An owner gets none while ``held_back(owner)``. ``on_given(key, owner)`` is called with each slot, before the next
    one is given.
    """

    slots: int
    most_of: Callable[[str], int] = _unlimited
    held_back: Callable[[str], bool] = _never
    on_given: Callable[[str, str], None] = _ignore
    _owners: dict[str, _Owner] = field(init=False, default_factory=dict)
    _owner_of: dict[str, str] = field(init=False, default_factory=dict)
    _queue: dict[str, _Owner] = field(init=False, default_factory=dict)  # those of whom keys wait
    _held: int = field(init=False, default=0)
    _turns: count[int] = field(init=False, default_factory=count)

    def ask(self, key: str, owner: str) -> asyncio.Future[None]:
        """Return what is done once the key has a slot. ``leave`` gives the slot back, or ends the wait."""
        self._owner_of[key] = owner
        state = self._owners.setdefault(owner, _Owner())
        if not state.waiting:
            state.turn = next(self._turns)
            self._queue[owner] = state
        state.waiting[key] = asked = asyncio.get_running_loop().create_future()
        self.look_again()
        return asked

    def leave(self, key: str) -> None:
        """Give back the slot of the key, or end its wait."""
        owner = self._owner_of.pop(key, None)
        if owner is None:
            return
        state = self._owners[owner]
        if key in state.holding:
            state.holding.discard(key)
            self._held -= 1
        else:
            self._dequeue(owner, key).cancel()
        if not state.holding and not state.waiting:
            del self._owners[owner]
        self.look_again()

    def waiting(self) -> dict[str, int]:
        """Return the owners of whom keys wait, with the number of these keys."""
        return {owner: len(state.waiting) for owner, state in self._queue.items()}

    def look_again(self) -> None:
        """Give free slots to those who are next, until no slot or no owner who may have one is left."""
        while self._held < self.slots:
            ready = [(len(each.holding), each.turn, owner) for owner, each in self._queue.items() if self._may(owner)]
            if not ready:
                return
            self._give(min(ready)[2])

    def _may(self, owner: str) -> bool:
        most = self.most_of(owner)
        return not (most and len(self._owners[owner].holding) >= most) and not self.held_back(owner)

    def _give(self, owner: str) -> None:
        state = self._owners[owner]
        key = next(iter(state.waiting))
        asked = self._dequeue(owner, key)
        state.turn = next(self._turns)
        state.holding.add(key)
        self._held += 1
        self.on_given(key, owner)
        if not asked.done():
            asked.set_result(None)

    def _dequeue(self, owner: str, key: str) -> asyncio.Future[None]:
        state = self._owners[owner]
        asked = state.waiting.pop(key)
        if not state.waiting:
            del self._queue[owner]
        return asked
