"""Attacks that take more than a share of starts, pods and disk. Other users start their pods without a delay."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from tests.neighbours.harness import MB, VICTIM, Attack, Town, suffer, town
from tests.servers.redis import RedisServer

pytestmark = [pytest.mark.faults, pytest.mark.timeout(300)]

LIMITS = {"AWAKE_PER_USER": "5", "STORED_PER_USER": "50MB", "MESSAGES_PER_SESSION": "20"}
ROBBER = "eve"
UNREADY, KEPT, LARGE = 34, 30, 25


async def pods_that_never_get_ready(town: Town) -> None:
    """One user wakes more pods than may start at once, and none of them ever answers."""
    sessions = [await town.create(ROBBER, "never") for _ in range(UNREADY)]
    await asyncio.gather(*(town.call(ROBBER, "POST", f"/session/{each}/wake") for each in sessions))
    other = await town.create(VICTIM)
    assert await town.chat(VICTIM, other, "hello") == "heard hello"
    states = {(await town.call(ROBBER, "GET", f"/session/{each}"))[1]["status"] for each in sessions}
    assert states == {"waking"}, "the victim did not wait for any of them to give up"
    for each in sessions:
        await town.call(ROBBER, "DELETE", f"/session/{each}")


async def pods_that_are_kept_awake(town: Town) -> None:
    """One user wakes 30 pods and keeps each awake for an hour."""
    sessions = [await town.create(ROBBER) for _ in range(KEPT)]
    await asyncio.gather(
        *(town.call(ROBBER, "POST", f"/session/{each}/wake", json={"keep_awake_seconds": 3600}) for each in sessions)
    )
    other = await town.create(VICTIM)
    assert await town.chat(VICTIM, other, "hello") == "heard hello"
    bodies = [(await town.call(ROBBER, "GET", f"/session/{each}"))[1] for each in sessions]
    assert sum(body["ready_replicas"] for body in bodies) <= int(LIMITS["AWAKE_PER_USER"])
    for each in sessions:
        await town.call(ROBBER, "DELETE", f"/session/{each}")


async def artifacts_that_fill_the_disk(town: Town) -> None:
    """One user saves 25 artifacts of 7.9 MB."""
    session = await town.create(ROBBER)
    saved = [await save(town, session, "x" * 7_900_000) for _ in range(LARGE)]
    assert saved == [200] * 6 + [413] * (LARGE - 6)
    _, usage = await town.call(ROBBER, "GET", "/usage")
    assert 6 * 7_900_000 < usage["stored_bytes"]["used"] <= 50_000_000
    await town.call(ROBBER, "DELETE", f"/session/{session}")
    _, usage = await town.call(ROBBER, "GET", "/usage")
    assert usage["stored_bytes"]["used"] < MB


async def save(town: Town, session: str, text: str) -> int:
    path = f"/apps/talker/users/{ROBBER}/sessions/{session}/artifacts"
    status, _ = await town.call(ROBBER, "POST", path, json={"filename": "a.txt", "artifact": {"text": text}})
    return status


async def messages_that_fill_a_queue(town: Town) -> None:
    """One user sends 200 messages to a session that cannot answer."""
    session = await town.create(ROBBER, "never")
    path = f"/session/{session}/chat"
    sent = [await town.call(ROBBER, "POST", path, json={"message": "x" * 100_000}) for _ in range(200)]
    assert [status for status, _ in sent] == [202] * 20 + [429] * 180
    await town.call(ROBBER, "DELETE", f"/session/{session}")


ATTACKS: list[Attack] = [
    pods_that_never_get_ready,
    pods_that_are_kept_awake,
    artifacts_that_fill_the_disk,
    messages_that_fill_a_queue,
]


# The allocator and SQLite's cached statements keep some of what they once held. Refused bodies would be twice as much.
KEPT_BYTES: dict[Attack, int] = {artifacts_that_fill_the_disk: 200 * MB, messages_that_fill_a_queue: 30 * MB}


@pytest.mark.parametrize("attack", ATTACKS, ids=lambda each: each.__name__)
async def test_the_others_have_their_share(tmp_path: Path, own_redis: RedisServer, attack: Attack) -> None:
    async with town(tmp_path, own_redis, **LIMITS) as made:
        await suffer(made, attack, kept=KEPT_BYTES.get(attack, 0))
