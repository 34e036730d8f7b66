"""Attacks that make the front door work: pods and callers cannot hold its event loop."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from dataclasses import dataclass

import aiohttp
import pytest

from tests.neighbours.flooder import PIECES
from tests.neighbours.harness import Attack, Town, suffer, town
from tests.servers.redis import RedisServer

pytestmark = [pytest.mark.faults, pytest.mark.timeout(300)]

LASTS = 8.0  # seconds
JSON = {"Content-Type": "application/json"}
OBJECTS = b'{"state":{"a":[' + b",".join([b"{}"] * 95_000) + b"]}}"


@dataclass(frozen=True)
class Flooding:
    """An attack by three pods of one user, whose answers are endless."""

    pieces: str

    @property
    def __name__(self) -> str:
        return f"pods that send {self.pieces}"

    async def __call__(self, town: Town) -> None:
        sessions = [await town.create("eve", "flooder") for _ in range(3)]
        body, wait = {"message": self.pieces}, {"Prefer": "wait=20"}
        chats = (town.call("eve", "POST", f"/session/{each}/chat", json=body, headers=wait) for each in sessions)
        for status, answer in await asyncio.gather(*chats):
            assert (status, answer["status"]) == (200, "failed"), answer


async def many_values_in_a_chat(town: Town) -> None:
    """Three connections send chats with two million empty objects."""
    session = await town.create("eve")
    body = b'{"message":"x","z":[' + b",".join([b"{}"] * 2_000_000) + b"]}"
    assert await _repeat(town, f"/session/{session}/chat", body, 3) <= {413, 429}


async def long_numbers_in_an_event(town: Town) -> None:
    """Three connections send ADK events full of numbers that are almost too large for a float."""
    path = "/apps/talker/users/eve/sessions"
    assert (await town.call("eve", "POST", path, json={"sessionId": "one"}))[0] == 200
    numbers = b",".join([b"7" * 308] * 20_000)
    body = b'{"event":{"author":"a","actions":{"stateDelta":{"a":[' + numbers + b"]}}}}"
    assert await _repeat(town, f"{path}/one/events", body, 3) <= {413, 429}


async def as_many_events_as_fit(town: Town) -> None:
    """Three connections append the most events and values that a body may have."""
    path = "/apps/talker/users/eve/sessions"
    assert (await town.call("eve", "POST", path, json={"sessionId": "one"}))[0] == 200
    event = b'{"author":"a","customMetadata":{"a":[' + b",".join([b"{}"] * 190) + b"]}}"
    body = b'{"events":[' + b",".join([event] * 500) + b"]}"
    assert await _repeat(town, f"{path}/one/events", body, 3) <= {200, 400, 429}


async def new_sessions_full_of_objects(town: Town) -> None:
    """Callers make ADK sessions with as many objects as fit, their own and those of another user."""
    own, foreign = (f"/apps/talker/users/{user}/sessions" for user in ("eve", "ada"))
    statuses = await asyncio.gather(_repeat(town, own, OBJECTS, 3), _repeat(town, foreign, OBJECTS, 3))
    assert statuses[0] <= {200, 429}
    assert statuses[1] <= {404, 429}


async def _repeat(town: Town, path: str, body: bytes, connections: int) -> set[int]:
    """Send the request again and again for a while, and return the statuses of the answers."""
    statuses: set[int] = set()

    async def send() -> None:
        while True:
            with suppress(aiohttp.ClientError):
                statuses.add((await town.call("eve", "POST", path, data=body, headers=JSON))[0])
            await asyncio.sleep(0)

    sending = [asyncio.create_task(send()) for _ in range(connections)]
    await asyncio.sleep(LASTS)
    for each in sending:
        each.cancel()
    await asyncio.gather(*sending, return_exceptions=True)
    return statuses


ATTACKS: list[Attack] = [
    *map(Flooding, PIECES),
    many_values_in_a_chat,
    long_numbers_in_an_event,
    as_many_events_as_fit,
    new_sessions_full_of_objects,
]


@pytest.mark.parametrize("attack", ATTACKS, ids=lambda each: each.__name__.replace(" ", "_"))
async def test_nobody_else_has_to_wait(tmp_path, own_redis: RedisServer, attack: Attack):
    async with town(tmp_path, own_redis) as made:
        # Python keeps 20 MB of arenas for the objects of the largest bodies at once. More such bodies add nothing.
        path = "/apps/talker/users/eve/sessions"
        for _ in range(5):
            await asyncio.gather(*(made.call("eve", "POST", path, data=OBJECTS, headers=JSON) for _ in range(6)))
        await suffer(made, attack)
