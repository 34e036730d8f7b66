"""The feed sends every stored event once and in order, whatever Redis or the database miss."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager
from typing import Any, cast

import pytest

from session_manager.activity.protocol import LAGGED, Lagging, TurnActivity
from session_manager.domain.access import Access
from session_manager.domain.errors import ActivityUnavailable, NotFound, StoreUnavailable
from session_manager.domain.message import Place, StoredEvent
from session_manager.domain.mode import AllAuto
from session_manager.domain.times import Micros
from session_manager.store.protocol import Store
from session_manager.turns.feed import PAGE, Feed
from session_manager.turns.kit import Kit

SESSION = "s"


class Events:
    """A store of events. ``away``: it is unavailable. ``deleted``: the session does not exist."""

    def __init__(self, count: int) -> None:
        self.count = count
        self.away = False
        self.deleted = False
        self.created = 0  # the time of every event

    async def events(self, session: str, after: int, limit: int) -> list[StoredEvent]:
        if self.away:
            raise StoreUnavailable
        numbers = range(after + 1, min(after + limit, self.count) + 1)
        return [StoredEvent(number, "turn.processed", None, "{}", Micros(self.created)) for number in numbers]

    async def get_session(self, session: str, access: Access) -> None:
        if self.deleted:
            raise NotFound


class Notes:
    """The live notes. ``away``: Redis is unavailable."""

    def __init__(self) -> None:
        self.heard: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self.away = False
        self.kept: list[dict[str, Any]] = []

    @asynccontextmanager
    async def watch(self, session: str, allowance: object = None) -> AsyncIterator[asyncio.Queue[dict[str, Any]]]:
        if self.away:
            raise ActivityUnavailable
        yield self.heard

    async def pieces(self, session: str) -> list[dict[str, Any]]:
        return self.kept


@pytest.fixture
def notes() -> Notes:
    return Notes()


def feed(events: Events, notes: Notes) -> Feed:
    return Feed(Kit(cast(Store, events), cast(TurnActivity, notes), cast(Any, None), AllAuto()), poll=0.001)


async def numbers(feed: Feed, after: int, wanted: int) -> list[int]:
    found: list[int] = []
    async with asyncio.timeout(10), aclosing(feed.follow(SESSION, Place(after))) as items:
        async for item in items:
            if isinstance(item, StoredEvent):
                found.append(item.number)
            if len(found) == wanted:
                break
    return found


async def test_a_follower_resumes_where_it_stopped_over_several_pages(notes):
    assert await numbers(feed(Events(PAGE * 2 + 5), notes), 3, PAGE * 2 + 2) == list(range(4, PAGE * 2 + 6))


async def test_a_note_about_an_event_that_was_sent_sends_nothing(notes):
    events = Events(2)
    notes.heard.put_nowait({"kind": "event", "number": 1})
    notes.heard.put_nowait({"kind": "event", "number": 2})
    events.count = 3
    assert await numbers(feed(events, notes), 0, 3) == [1, 2, 3]


async def test_without_redis_the_database_is_polled(notes):
    notes.away = True
    assert await numbers(feed(Events(2), notes), 0, 2) == [1, 2]


async def test_an_unavailable_database_does_not_end_the_feed(notes):
    events = Events(2)
    events.away = True
    async with asyncio.timeout(10), aclosing(feed(events, notes).follow(SESSION, Place())) as items:
        assert await anext(items) is None
        events.away = False
        assert [cast(StoredEvent, await anext(items)).number for _ in range(2)] == [1, 2]


async def test_live_notes_are_passed_on_until_the_session_is_deleted(notes):
    notes.heard.put_nowait({"kind": "delta", "data": "x"})
    notes.heard.put_nowait({"kind": "session.deleted"})
    async with asyncio.timeout(10):
        kinds = [
            item["kind"] async for item in feed(Events(0), notes).follow(SESSION, Place()) if isinstance(item, dict)
        ]
    assert kinds == ["delta", "session.deleted"]


def piece(chunk: int, attempt: int = 1, message: str = "m1") -> dict[str, Any]:
    return {"kind": "delta", "message_id": message, "attempt": attempt, "chunk": chunk}


async def test_a_follower_that_lags_is_stopped(notes):
    await notes.heard.put(LAGGED)
    with pytest.raises(Lagging):
        async with aclosing(feed(Events(0), notes).follow(SESSION, Place())) as items:
            async for _ in items:
                pass


async def test_kept_pieces_come_first_and_none_comes_twice(notes):
    restarted = {"kind": "turn.restarted", "message_id": "m1", "attempt": 2}
    notes.kept = [restarted, piece(1, 2), piece(2, 2)]
    late = [piece(5, 1), restarted, piece(2, 2)]
    fresh = [piece(3, 2), piece(1, 3), piece(1, 1, "m2"), {"kind": "session.phase", "phase": "x"}]
    for note in [*late, *fresh]:
        notes.heard.put_nowait(note)
    heard: list[dict[str, Any] | None] = []
    async with asyncio.timeout(10), aclosing(feed(Events(0), notes).notes(SESSION)) as items:
        assert await anext(items) is None
        while len(heard) < 7:
            heard.append(await anext(items))
            heard = [note for note in heard if note is not None]
    assert heard == [*notes.kept, *fresh]


async def test_a_deleted_session_is_noticed_without_a_note(notes):
    events = Events(0)
    events.deleted = True
    with pytest.raises(NotFound):
        await numbers(feed(events, notes), 0, 1)


async def places(feed: Feed, after: Place, wanted: int) -> list[int | str]:
    """Return the next numbers of events, and the kinds of notes."""
    found: list[int | str] = []
    async with asyncio.timeout(10), aclosing(feed.follow(SESSION, after)) as items:
        async for item in items:
            if item is not None:
                found.append(item.number if isinstance(item, StoredEvent) else item["kind"])
            if len(found) == wanted:
                break
    return found


@pytest.mark.parametrize("after", [Place(4), Place(3, Micros(5)), Place(1, Micros(5)), Place(PAGE * 2)])
async def test_a_place_that_is_not_in_the_database_begins_again(notes, after):
    assert await places(feed(Events(3), notes), after, 4) == ["feed.reset", 1, 2, 3]


@pytest.mark.parametrize("after", [Place(2), Place(2, Micros(0))])
async def test_a_place_that_is_there_goes_on(notes, after):
    assert await places(feed(Events(3), notes), after, 1) == [3]


async def test_a_follower_notices_that_the_database_was_replaced(notes):
    events = Events(3)
    found: list[int | str] = []
    async with asyncio.timeout(10), aclosing(feed(events, notes).follow(SESSION, Place())) as items:
        async for item in items:
            if item is None and found == [1, 2, 3]:
                events.count, events.created = 2, 7
            elif item is not None:
                found.append(item.number if isinstance(item, StoredEvent) else item["kind"])
            if len(found) == 6:
                break
    assert found == [1, 2, 3, "feed.reset", 1, 2]


@pytest.mark.parametrize("place", [Place(), Place(5), Place(5, Micros(1_795_895_967_000_001))])
def test_a_place_is_read_as_it_was_written(place: Place):
    assert Place.parse(str(place)) == place
