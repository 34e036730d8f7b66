"""The turn leases that this process holds, and their renewal.

A lease saves double work; it is not the fence.  The fence is the attempt in SQL: a turn whose lease was lost goes on,
and its result is dropped if somebody else was given the message meanwhile.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable

from session_manager.activity.protocol import SessionGone
from session_manager.domain.errors import Unavailable

log = logging.getLogger(__name__)

Renew = Callable[[str, str], Awaitable[bool]]
Release = Callable[[str, str], Awaitable[None]]


class Leases:
    """``renew(session, holder)`` extends one lease in Redis and says whether it is still ours. ``period``: seconds.

    ``release(session, holder)`` frees it there, if it is that holder's.
    """

    def __init__(self, period: float, renew: Renew, release: Release) -> None:
        self._period = period
        self._renew = renew
        self._release = release
        self._held: dict[str, tuple[str, float]] = {}

    def hold(self, session: str, holder: str, since: float) -> None:
        """``since`` is the loop's time before Redis was asked: the lease cannot end earlier than we think."""
        self._held[session] = (holder, since)

    def drop(self, session: str, holder: str) -> None:
        if self._keeps(session, holder):
            del self._held[session]

    def holds(self, session: str, holder: str) -> bool:
        held = self._held.get(session)
        return held is not None and held[0] == holder and asyncio.get_running_loop().time() - held[1] < self._period

    def held(self) -> list[tuple[str, str]]:
        return [(session, holder) for session, (holder, _) in self._held.items()]

    async def run(self) -> None:
        """Renew three times a period, for ever."""
        while True:
            await asyncio.sleep(self._period / 3)
            await asyncio.gather(*(self._renew_one(session, holder) for session, holder in self.held()))

    async def _renew_one(self, session: str, holder: str) -> None:
        if not self._keeps(session, holder):
            return
        before = asyncio.get_running_loop().time()
        try:
            ours = await self._renew(session, holder)
            if not self._keeps(session, holder):
                # Given back meanwhile. If Redis ran the renewal after that, at a second try, it brought the lease back.
                await self._release(session, holder)
        except SessionGone:
            ours = False
        except Unavailable:
            return
        if not self._keeps(session, holder):
            return
        if ours:
            self._held[session] = (holder, before)
        else:
            del self._held[session]
            log.warning("turn lease lost", extra={"event": "turn.lease_lost", "session": session})

    def _keeps(self, session: str, holder: str) -> bool:
        held = self._held.get(session)
        return held is not None and held[0] == holder
