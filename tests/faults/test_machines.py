"""Two machines: pods and turns survive when the machine that runs them dies, is stopped, or is asked to leave."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from tests.faults.doors import Door
from tests.servers.redis import RedisServer
from tests.waiting import until

CLASSES = Path(__file__).parents[1] / "servers" / "agents" / "classes.yaml"
HEARTBEAT = 1.0  # seconds
TURN = 3.0


class Machine(Door):
    """Return a front door with its own data folder, on the shared database and Redis."""

    def __init__(self, name: str, folder: Path, redis: RedisServer, client: aiohttp.ClientSession, **env: str) -> None:
        facts = {
            "REDIS_URL": redis.url,
            "CLOUD_RUN_SESSION_DB_PATH": str(folder / "sessions.db"),
            "DATA_DIR": str(folder / name),
            "SESSION_CLASSES": str(CLASSES),
            "HEARTBEAT": str(HEARTBEAT),
            "LEASE": "2",
            "REPAIR_INTERVAL": "0.5",
            **env,
        }
        super().__init__(name, folder, facts)
        self._client = client

    @property
    def events(self) -> list[str]:
        return [entry["event"] for entry in self.logged() if entry["event"].startswith("machine.")]

    def signal(self, number: signal.Signals) -> None:
        assert self._process is not None
        self._process.send_signal(number)

    async def call(self, method: str, path: str, **options: Any) -> tuple[int, Any]:
        async with self._client.request(method, self.url + path, **options) as response:
            return response.status, await response.json(content_type=None)

    async def ready(self) -> bool:
        return (await self.call("GET", "/readyz"))[0] == 200

    async def create(self) -> str:
        status, body = await self.call("POST", "/session/create", json={"user_id": "ada"})
        assert status == 201, body
        return str(body["uuid"])

    async def chat(self, session: str, message: str, wait: int = 20) -> tuple[int, Any]:
        headers = {"Prefer": f"wait={wait}"}
        return await self.call("POST", f"/session/{session}/chat", json={"message": message}, headers=headers)

    async def processed(self, session: str) -> list[tuple[str, int]]:
        """Return the answered messages with the attempt that the agent answered."""
        status, page = await self.call("GET", f"/session/{session}/messages")
        assert status == 200, page
        done = [each for each in page["messages"] if each["status"] == "processed"]
        return [(each["message"], each["pod_response"]["attempt"]) for each in done]


@pytest.fixture
async def machine(tmp_path: Path, own_redis: RedisServer) -> AsyncIterator[Any]:
    made: list[Machine] = []
    async with aiohttp.ClientSession() as client:

        async def start(name: str, **env: str) -> Machine:
            made.append(Machine(name, tmp_path, own_redis, client, **env))
            await made[-1].start()
            return made[-1]

        yield start
    for each in made:
        if each.running:
            each.signal(signal.SIGCONT)
            each.terminate()
            await each.gone()


async def test_a_machine_that_died_is_followed_and_its_turn_delivered_again(machine):
    one, two = await machine("one"), await machine("two")
    session = await one.create()
    assert (await one.chat(session, "hello"))[0] == 200
    assert (await one.chat(session, f"sleep {TURN}", wait=1))[0] == 202
    assert not two.owns_pods()
    one.kill()
    await until(two.ready, 2 * HEARTBEAT + 10)

    async def delivered() -> bool:
        return await two.processed(session) == [("hello", 1), (f"sleep {TURN}", 2)]

    await until(delivered, 30)
    assert two.events == ["machine.waiting", "machine.held"]
    assert two.bugs() == []


async def test_a_machine_that_was_stopped_finds_another_one_and_ends(machine):
    one, two = await machine("one"), await machine("two")
    session = await one.create()
    assert (await one.chat(session, "hello"))[0] == 200
    assert (await one.chat(session, f"sleep {TURN}", wait=1))[0] == 202
    one.signal(signal.SIGSTOP)
    asked = asyncio.create_task(one.chat(session, "late"))
    await until(two.ready)
    assert (await two.chat(session, "next", wait=30))[0] == 200
    one.signal(signal.SIGCONT)
    assert await one.gone() == 1
    assert one.events[-1] == "machine.lost"
    try:
        late = (await asked)[0]
    except aiohttp.ClientError:
        late = 0
    assert late != 200, "it answers no turn any more"
    expected = [("hello", 1), (f"sleep {TURN}", 2), ("next", 1), *([("late", 1)] if late == 202 else [])]

    async def all_there() -> bool:
        return await two.processed(session) == expected

    await until(all_there)
    assert [bug for bug in one.bugs() if "Error: Another machine has taken over" not in bug] + two.bugs() == []


async def test_a_machine_that_yields_hands_over_to_the_one_that_waits(machine):
    one = await machine("one", WRITER_YIELDS="true")
    session = await one.create()
    assert (await one.chat(session, "hello"))[0] == 200
    two = await machine("two")
    assert await one.gone() == 0
    await until(two.ready)
    assert (await two.chat(session, "again"))[0] == 200
    assert one.events == ["machine.held", "machine.asked", "machine.let_go"]
    assert two.events == ["machine.waiting", "machine.held"]
    assert await two.processed(session) == [("hello", 1), ("again", 1)]
    assert one.bugs() + two.bugs() == []
