"""Attacks that make the front door hold bytes: nobody else notices, and the memory is free again afterwards."""

from __future__ import annotations

import asyncio
from contextlib import suppress

import pytest

from tests.neighbours.harness import ADDRESSES, MB, NOBODY, Attack, Town, suffer, town
from tests.servers.redis import RedisServer

pytestmark = [pytest.mark.faults, pytest.mark.timeout(300)]

HOLD = 6.0  # seconds for which an attacker keeps what it has
FILLER = b"x" * 65_536
JSON = "application/json"


async def bodies_on_an_open_path(town: Town) -> None:
    """25 callers without a key send almost 8 MB each to a path that needs none, and stall."""
    head = town.head(NOBODY, "POST /adk/health", **{"Content-Length": "8000000"})
    await asyncio.gather(*(_stall(town, NOBODY, head, 7_990_000) for _ in range(25)))


async def bodies_with_a_key(town: Town) -> None:
    """A caller with a key sends 100 bodies of almost 6 MB at the same time, and stalls."""
    session = await town.create("eve")
    head = town.head("eve", f"POST /session/{session}/chat", **{"Content-Type": JSON, "Content-Length": "6000000"})
    await asyncio.gather(*(_stall(town, "eve", head, 5_990_000) for _ in range(100)))


async def unfinished_heads(town: Town) -> None:
    """2,000 callers without a key send 60 KB of a head, and stall."""
    begin = b"GET /livez HTTP/1.1\r\nHost: localhost\r\nX-Long: "
    await asyncio.gather(*(_stall(town, NOBODY, begin, 60_000) for _ in range(2_000)))


async def idle_connections(town: Town) -> None:
    """Callers without a key open more connections than an address may have, and send nothing."""
    writers = [(await town.connect())[1] for _ in range(2_500)]
    await asyncio.sleep(HOLD)
    for each in writers:
        each.transport.abort()


async def pages_that_nobody_reads(town: Town) -> None:
    """A caller with a key asks 20 times for a page of nine messages of 1 MB, and reads nothing."""
    session = await town.create("eve")
    for _ in range(9):
        await town.chat("eve", session, "m" * 1_000_000)
    await _unread(town, 20, town.head("eve", f"GET /session/{session}/messages?limit=500"))


async def replies_that_nobody_reads(town: Town) -> None:
    """A caller with a key asks 60 times for a message with a reply of 7 MB, and reads nothing."""
    session = await town.create("eve")
    await town.chat("eve", session, '{"reply": 7000000}')
    _, page = await town.call("eve", "GET", f"/session/{session}/messages")
    message = page["messages"][0]["message_id"]
    await _unread(town, 60, town.head("eve", f"GET /session/{session}/messages/{message}"))


async def feeds_that_nobody_reads(town: Town) -> None:
    """A caller with a key opens 60 feeds and reads none, while its agent streams 8 pieces of 900 KB."""
    session = await town.create("eve")
    await town.chat("eve", session, "are you awake?")
    feeds = asyncio.create_task(_unread(town, 60, town.head("eve", f"GET /session/{session}/events")))
    await asyncio.sleep(1.0)
    await town.chat("eve", session, '{"deltas": 8, "size": 900000}')
    await feeds


async def _stall(town: Town, caller: str, begin: bytes, size: int) -> None:
    """Send ``begin`` and ``size`` bytes, if the front door takes them, and keep the connection for a while."""
    with suppress(ConnectionError):
        _, writer = await town.connect(ADDRESSES.get(caller, caller))
        try:
            writer.write(begin)
            for start in range(0, size, len(FILLER)):
                writer.write(FILLER[: size - start])
                await writer.drain()
            await asyncio.sleep(HOLD)
        finally:
            writer.transport.abort()


async def _unread(town: Town, count: int, request: bytes) -> None:
    """Send the request on so many connections, and read nothing of the answers."""
    writers = []
    for _ in range(count):
        reader, writer = await town.connect(ADDRESSES["eve"])
        reader._transport.pause_reading()  # type: ignore[attr-defined]
        writer.write(request)
        writers.append(writer)
    await asyncio.sleep(HOLD)
    for each in writers:
        each.transport.abort()


ATTACKS: dict[Attack, int] = {
    bodies_on_an_open_path: 16,
    bodies_with_a_key: 100,
    unfinished_heads: 64,
    idle_connections: 64,
    pages_that_nobody_reads: 64,
    replies_that_nobody_reads: 128,
    feeds_that_nobody_reads: 100,
}
"""Each attack, and the MB by which the front door may grow meanwhile."""


@pytest.mark.parametrize("attack", ATTACKS, ids=lambda each: each.__name__)
async def test_nobody_else_notices(tmp_path, own_redis: RedisServer, attack: Attack):
    async with town(tmp_path, own_redis) as made:
        await suffer(made, attack, most=ATTACKS[attack] * MB)
