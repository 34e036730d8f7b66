"""The feed of a session: what happens there, live and without a gap.

Numbered events come from SQL and nowhere else; Redis only says that there is one more.  A follower subscribes first,
then reads SQL past the last event it sent.  It reads again on every note, and after a while without one, since notes
may be lost.  Each read begins with the last event itself: after a restore it may be missing or have changed.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing, suppress
from dataclasses import dataclass

from session_manager.activity.protocol import LAGGED, Allowance, FeedNote, Lagging, SessionGone
from session_manager.domain.access import EVERYTHING
from session_manager.domain.errors import Unavailable
from session_manager.domain.message import Place, StoredEvent
from session_manager.turns.kit import Kit

PAGE = 100
DELETED = "session.deleted"
RESET: FeedNote = {"kind": "feed.reset", "detail": "the database was replaced; the feed begins again"}


@dataclass(slots=True, eq=False)
class Feed:
    """``poll``: seconds without a note after which a follower reads SQL all the same."""

    kit: Kit
    poll: float

    async def notes(
        self, session: str, allowance: Allowance | None = None, *, replay: bool = True
    ) -> AsyncGenerator[FeedNote | None, None]:
        """Yield live notes, endlessly. The first item is None: from then on no note is missed.

        With ``replay`` the pieces that the running turn has sent before come first. Without notes, or without Redis,
        there is a None every ``poll`` seconds. Raises Lagging if more wait than the ``allowance`` permits.
        """
        last: FeedNote = {}
        while True:
            try:
                async with self.kit.activity.watch(session, allowance) as heard:
                    yield None
                    for piece in await self._pieces(session) if replay else ():
                        if not _includes(last, piece):
                            yield (last := piece)
                    while True:
                        note = await self._next(heard)
                        if note is LAGGED:
                            raise Lagging
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

    async def follow(
        self, session: str, after: Place, allowance: Allowance | None = None
    ) -> AsyncGenerator[StoredEvent | FeedNote | None, None]:
        """Yield stored events behind ``after``, each once and in order, with live notes in between.

        ``RESET`` means that the database was replaced by another or older one: what follows begins at its first event.
        None is a sign of life while nothing happens. Ends when the session is deleted.

        Raises NotFound if it already is, and Lagging as ``notes`` does.
        """
        last = after
        async with aclosing(self.notes(session, allowance)) as notes:
            async for note in notes:
                if note is not None and note["kind"] != "event":
                    yield note
                    if note["kind"] == DELETED:
                        return
                    continue
                # Events that cannot be read while the database is unavailable are read at the next sign of life.
                with suppress(Unavailable):
                    async for event in self._stored(session, last):
                        last = event.place if isinstance(event, StoredEvent) else Place()
                        yield event
                    if note is None:
                        await self.kit.store.get_session(session, EVERYTHING)
                if note is None:
                    yield None

    async def _stored(self, session: str, last: Place) -> AsyncGenerator[StoredEvent | FeedNote, None]:
        """Yield the events behind ``last``. The event at ``last`` is read too, to see that it is still that one."""
        after = max(0, last.number - 1)
        page = await self.kit.store.events(session, after, PAGE)
        if last.number and not _is_at(last, page):
            yield RESET
            page = await self.kit.store.events(session, 0, PAGE) if after else page
        elif last.number:
            page = page[1:] or await self.kit.store.events(session, last.number, PAGE)
        while page:
            for event in page:
                yield event
            if len(page) < PAGE - 1:
                return
            page = await self.kit.store.events(session, page[-1].number, PAGE)


def _is_at(place: Place, page: list[StoredEvent]) -> bool:
    return bool(page) and page[0].number == place.number and place.created_at in (None, page[0].created_at)


def _includes(last: FeedNote, note: FeedNote) -> bool:
    """Return True if ``note`` is a piece of a reply up to ``last``."""
    return "attempt" in note and _place(last) >= _place(note) and last["message_id"] == note["message_id"]


def _place(piece: FeedNote) -> tuple[int, int]:
    return piece.get("attempt", 0), piece.get("chunk", 0)
