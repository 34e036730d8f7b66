"""Attacks with wrong keys, and with headers where no proxy looks. Nobody else notices, and wrong keys are logged."""

from __future__ import annotations

import asyncio
from collections import Counter

import aiohttp
import pytest

from tests.neighbours.harness import ADDRESSES, KEYS, NOBODY, Town, suffer, town
from tests.servers.redis import RedisServer
from tests.waiting import until

pytestmark = [pytest.mark.faults, pytest.mark.timeout(300)]

GUESSES = 400
LOOKS, ALLOWED = 100, 40  # of an anonymous caller, and how many of them a minute allows


async def wrong_keys(town: Town) -> None:
    """400 wrong keys from one address, from which others come with valid ones."""
    statuses: Counter[int] = Counter()
    connector = aiohttp.TCPConnector(local_addr=(ADDRESSES["eve"], 0), limit=20)
    async with aiohttp.ClientSession(connector=connector) as client:

        async def guess(number: int) -> None:
            headers = {"Authorization": f"Bearer guess-number-{number:010}"}
            async with client.get(f"{town.door.url}/sessions", headers=headers) as response:
                statuses[response.status] += 1

        await asyncio.gather(*(guess(number) for number in range(GUESSES)))
    assert set(statuses) == {401, 429}
    assert statuses[429] > GUESSES / 2  # the limit may begin anew meanwhile
    assert (await town.call("eve", "GET", "/sessions"))[0] == 200


async def trailers(town: Town) -> None:
    """Headers behind the body of a chunked request, where no proxy looks: other addresses, and a key."""
    answers = Counter([await _with_trailer(town, f"X-Forwarded-For: 9.9.9.{number}") for number in range(LOOKS)])
    assert answers[200] <= 2 * ALLOWED  # a minute may end meanwhile
    assert answers[429] == LOOKS - answers[200]
    for trailer in (f"X-API-Key: {KEYS['eve']}", f"Authorization: Bearer {KEYS['eve']}"):
        assert await _with_trailer(town, trailer, "/sessions") == 401


async def _with_trailer(town: Town, trailer: str, path: str = "/health") -> int:
    reader, writer = await town.connect()
    head = town.head(NOBODY, f"GET {path}", **{"Transfer-Encoding": "chunked", "Connection": "close"})
    writer.write(head + f"0\r\n{trailer}\r\n\r\n".encode())
    answer = await reader.read()
    writer.close()
    return int(answer.split(b" ", 2)[1])


async def test_wrong_keys_lock_out_nobody_and_are_logged(tmp_path, own_redis: RedisServer):
    async with town(tmp_path, own_redis, RATE_LIMIT_FAILED_KEYS="30/15 seconds") as made:
        await suffer(made, wrong_keys)
        lines = lambda: [each for each in made.door.logged() if each["event"] == "keys.failed"]  # noqa: E731
        await until(lambda: sum(each["count"] for each in lines()) == GUESSES, 40)
        assert {each["address"] for each in lines()} == {ADDRESSES["eve"]}
        assert len(lines()) <= 3
        assert not any("guess-number" in str(each) for each in made.door.logged())


async def test_trailers_are_no_headers(tmp_path, own_redis: RedisServer):
    async with town(tmp_path, own_redis, TRUSTED_PROXIES=NOBODY, RATE_LIMIT_DEFAULT=f"{ALLOWED}/minute") as made:
        await suffer(made, trailers)
