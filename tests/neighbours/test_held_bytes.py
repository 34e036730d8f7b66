"""Attacks that make the front door hold bytes: nobody else notices, and the memory is free again afterwards."""

from __future__ import annotations

import asyncio

import pytest

from tests.neighbours.harness import NOBODY, Attack, Town, suffer, town
from tests.servers.redis import RedisServer

pytestmark = [pytest.mark.faults, pytest.mark.timeout(300)]

HOLD = 6.0  # seconds for which an attacker keeps what it has
FILLER = b"x" * 65_536


async def bodies_on_an_open_path(town: Town) -> None:
    """25 callers without a key send almost 8 MB each to a path that needs none, and stall."""
    head = town.head(NOBODY, "POST /adk/health", **{"Content-Length": "8000000"})
    await asyncio.gather(*(_stall(town, head, 7_990_000) for _ in range(25)))


async def unfinished_heads(town: Town) -> None:
    """2,000 callers without a key send 60 KB of a head, and stall."""
    begin = b"GET /livez HTTP/1.1\r\nHost: localhost\r\nX-Long: "
    await asyncio.gather(*(_stall(town, begin, 60_000) for _ in range(2_000)))


async def idle_connections(town: Town) -> None:
    """2,000 callers connect and send nothing."""
    writers = [(await town.connect())[1] for _ in range(2_000)]
    await asyncio.sleep(HOLD)
    for each in writers:
        each.transport.abort()


async def nothing(town: Town) -> None:
    await asyncio.sleep(20)


async def _stall(town: Town, begin: bytes, size: int) -> None:
    """Send ``begin`` and ``size`` bytes, if the front door takes them, and keep the connection for a while."""
    try:
        _, writer = await town.connect()
        writer.write(begin)
        for start in range(0, size, len(FILLER)):
            writer.write(FILLER[: size - start])
            await writer.drain()
    except ConnectionError:
        return
    await asyncio.sleep(HOLD)
    writer.transport.abort()


ATTACKS: list[Attack] = [bodies_on_an_open_path]


@pytest.mark.parametrize("attack", ATTACKS, ids=lambda each: each.__name__)
async def test_nobody_else_notices(tmp_path, own_redis: RedisServer, attack: Attack):
    async with town(tmp_path, own_redis) as made:
        await suffer(made, attack)
