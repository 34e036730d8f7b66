"""A client that joins a running turn hears the pieces of the reply from the first one, each once."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from session_manager.turns import turn
from tests.servers.front import FrontDoor, events

KEY = {"Idempotency-Key": "one", "Accept": "text/event-stream"}


@asynccontextmanager
async def talking(front: FrontDoor, session: str, message: str) -> AsyncIterator[AsyncIterator[tuple[str, Any]]]:
    url = f"{front.url}/session/{session}/chat"
    async with (
        front.client.post(url, json={"message": message}, headers=KEY) as answer,
        aclosing(events(answer)) as heard,
    ):
        yield heard


@asynccontextmanager
async def watching(front: FrontDoor, session: str) -> AsyncIterator[AsyncIterator[tuple[str, Any]]]:
    async with front.client.get(f"{front.url}/session/{session}/events") as answer, aclosing(events(answer)) as heard:
        yield heard


async def pieces(heard: AsyncIterator[tuple[str, Any]], count: int) -> list[Any]:
    """Return the next pieces of a reply, with their numbers."""
    found: list[Any] = []
    while len(found) < count:
        kind, data = await anext(heard)
        if kind == "delta":
            found.append((data["chunk"], data["data"]))
    return found


async def ending(heard: AsyncIterator[tuple[str, Any]]) -> list[str]:
    """Return the kinds of the events to the end of the turn."""
    kinds: list[str] = []
    async for kind, _ in heard:
        kinds.append(kind)
        if kind == "turn.processed":
            break
    return kinds


@pytest.fixture
def may_end(tmp_path: Path) -> Path:
    return tmp_path / "may-end"


async def test_a_second_client_hears_the_reply_from_its_first_piece(start, may_end):
    one, two = await start(), await start()
    session = await one.create()
    message = f"hold {may_end} a b c"
    async with asyncio.timeout(30), talking(one, session, message) as first:
        whole = await pieces(first, 3)
        assert [number for number, _ in whole] == [1, 2, 3]
        async with talking(two, session, message) as same, watching(two, session) as watched:
            assert await pieces(same, 3) == whole
            assert await pieces(watched, 3) == whole
            may_end.touch()
            for heard in (first, same, watched):
                assert "delta" not in await ending(heard)


async def test_a_turn_that_ended_leaves_no_pieces(front, may_end):
    session = await front.create()
    may_end.touch()
    assert (await front.chat(session, f"hold {may_end} a b"))[0] == 200
    assert await front.services.activity.pieces(session) == []
    async with asyncio.timeout(30), watching(front, session) as heard:
        assert await ending(heard) == ["turn.processed"]


async def test_pieces_of_a_very_long_reply_are_not_all_kept(front, may_end, monkeypatch):
    monkeypatch.setattr(turn, "MAX_KEPT", 20 + 4 * turn.PIECE)
    session = await front.create()
    async with asyncio.timeout(30), talking(front, session, f"hold {may_end} {'word ' * 9}") as first:
        assert len(await pieces(first, 9)) == 9
        kept = await front.services.activity.pieces(session)
        assert 0 < len(kept) < 9
        assert [note["chunk"] for note in kept] == [*range(1, len(kept) + 1)]
        may_end.touch()
        assert await ending(first) == ["turn.processed"]
