"""The feed of a session: what happens there, live and without a gap.

Numbered events come from SQL and nowhere else; Redis only says that there is one more.  A follower subscribes first,
then reads SQL past the last number it sent.  It reads again on every note, and after a while without one, since notes
may be lost.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing, suppress
from dataclasses import dataclass

from session_manager.activity.protocol import FeedNote, SessionGone
from session_manager.domain.access import EVERYTHING
from session_manager.domain.errors import Unavailable
from session_manager.domain.message import StoredEvent
from session_manager.turns.kit import Kit

PAGE = 100
DELETED = "session.deleted"


@dataclass(slots=True, eq=False)
class Feed:
    """``poll``: seconds without a note after which a follower reads SQL all the same."""

    kit: Kit
    poll: float

    async def notes(self, session: str) -> AsyncGenerator[FeedNote | None, None]:
        """Yield live notes, endlessly. The first item is None: from then on no note is missed.

        The pieces that the running turn has sent before come first. Without notes, or without Redis, there is a None
        every ``poll`` seconds.
        """
        last: FeedNote = {}
        while True:
            try:
                async with self.kit.activity.watch(session) as heard:
                    yield None
                    for piece in await self._pieces(session):
                        if not _includes(last, piece):
                            yield (last := piece)
                    while True:
                        note = await self._next(heard)
                        if note is None or not _includes(last, note):
                            yield note
            except Unavailable:
                yield None
                await asyncio.sleep(self.poll)

    async def _pieces(self, session: str) -> list[FeedNote]:
        try:
            return await self.kit.activity.pieces(session)
        except SessionGone:
            return []

    async def _next(self, heard: asyncio.Queue[FeedNote]) -> FeedNote | None:
        with suppress(TimeoutError):
            async with asyncio.timeout(self.poll):
                return await heard.get()
        return None

    async def follow(self, session: str, after: int) -> AsyncGenerator[StoredEvent | FeedNote | None, None]:
        """Yield stored events numbered above ``after``, each once and in order, with live notes in between.

        None is a sign of life while nothing happens. Ends when the session is deleted; NotFound if it already is.
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
                # Events that cannot be read while the database is unavailable are read at the next sign of life.
                with suppress(Unavailable):
                    async for event in self._stored(session, last):
                        last = event.number
                        yield event
                    if note is None:
                        await self.kit.store.get_session(session, EVERYTHING)
                if note is None:
                    yield None

    async def _stored(self, session: str, after: int) -> AsyncGenerator[StoredEvent, None]:
        while True:
            page = await self.kit.store.events(session, after, PAGE)
            for event in page:
                yield event
            if len(page) < PAGE:
                return
            after = page[-1].number


def _includes(last: FeedNote, note: FeedNote) -> bool:
    """Return True if ``note`` is a piece of a reply up to ``last``."""
    return "attempt" in note and _place(last) >= _place(note) and last["message_id"] == note["message_id"]


def _place(piece: FeedNote) -> tuple[int, int]:
    return piece.get("attempt", 0), piece.get("chunk", 0)
