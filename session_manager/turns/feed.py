"""What happens in a session, live and without a gap.

Numbered events come from SQL and nowhere else; Redis only says that there is one more.  A follower subscribes first,
then reads SQL past the last number it sent, and reads again whenever it is told, or was told nothing for a while:
notes may be lost.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing, suppress

from session_manager.activity.protocol import FeedNote, TurnActivity
from session_manager.domain.access import EVERYTHING
from session_manager.domain.errors import Unavailable
from session_manager.domain.message import StoredEvent
from session_manager.store.protocol import Store

PAGE = 100
DELETED = "session.deleted"


class Feed:
    """``poll`` in seconds: how often a follower looks into SQL although nothing told it to."""

    def __init__(self, store: Store, activity: TurnActivity, poll: float) -> None:
        self._store = store
        self._activity = activity
        self._poll = poll

    async def notes(self, session: str) -> AsyncGenerator[FeedNote | None, None]:
        """Live notes. None first, once nothing can be missed any more, and after each ``poll`` seconds without any.

        Endless. While Redis is away there is a None every ``poll`` seconds.
        """
        while True:
            try:
                async with self._activity.watch(session) as heard:
                    yield None
                    while True:
                        yield await self._next(heard)
            except Unavailable:
                yield None
                await asyncio.sleep(self._poll)

    async def _next(self, heard: asyncio.Queue[FeedNote]) -> FeedNote | None:
        try:
            async with asyncio.timeout(self._poll):
                return await heard.get()
        except TimeoutError:
            return None

    async def follow(self, session: str, after: int) -> AsyncGenerator[StoredEvent | FeedNote | None, None]:
        """Stored events numbered above ``after``, each once and in order, with the live notes between them.

        None is a sign of life when nothing happened. Ends when the session is deleted; NotFound if it is already.
        """
        last = after
        async with aclosing(self.notes(session)) as notes:
            async for note in notes:
                if note is not None and note["kind"] != "event":
                    yield note
                    if note["kind"] == DELETED:
                        return
                    continue
                if note is not None and note["number"] <= last:
                    continue
                # What cannot be read while the database is away is read at the next sign of life.
                with suppress(Unavailable):
                    async for event in self._stored(session, last):
                        last = event.number
                        yield event
                    if note is None:
                        await self._store.get_session(session, EVERYTHING)
                if note is None:
                    yield None

    async def _stored(self, session: str, after: int) -> AsyncGenerator[StoredEvent, None]:
        while True:
            page = await self._store.events(session, after, PAGE)
            for event in page:
                yield event
            if len(page) < PAGE:
                return
            after = page[-1].number
