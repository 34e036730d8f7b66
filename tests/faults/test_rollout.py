"""Front doors are replaced one after the other under load, repeatedly, and no caller notices.

Callers keep their connections.  They connect as through a Kubernetes Service, which sends no new caller to an instance
a moment after it started to leave; or through nginx, which sends callers there until it stops listening.
"""

from __future__ import annotations

import asyncio
import random
import shutil
import socket
import subprocess
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path

import aiohttp
import pytest

from tests.faults.doors import Door
from tests.faults.records import SqliteFile
from tests.faults.world import World, world
from tests.servers.redis import RedisServer
from tests.waiting import until

pytestmark = [pytest.mark.faults, pytest.mark.timeout(300)]

ROUNDS = 3
A_SECOND = 40  # requests, three of four of them messages
DELAY = "3"
LAG = 1.0  # seconds until no new caller is sent to an instance that leaves
KEPT = 60.0  # seconds for which callers keep an idle connection
QUIET_WITHIN = 60.0

NGINX = """
pid nginx.pid;
daemon off;
worker_processes 1;
events {{ worker_connections 1024; }}
http {{
  access_log off;
  upstream doors {{ {servers} keepalive 64; }}
  server {{
    listen 127.0.0.1:{port};
    location / {{
      proxy_pass http://doors;
      proxy_http_version 1.1;
      proxy_set_header Connection "";
      proxy_set_header Host 127.0.0.1;
      proxy_read_timeout 120s;
      client_body_buffer_size 2m;
    }}
  }}
}}
"""


class Callers:
    """``addresses``: new requests go to one of these."""

    def __init__(self, addresses: list[str], sessions: list[str]) -> None:
        self.addresses = addresses
        self.answers: Counter[int] = Counter()
        self.failed: list[str] = []
        self.acknowledged: dict[str, set[str]] = {session: set() for session in sessions}
        self._sessions = sessions
        self._random = random.Random(7)

    async def run(self) -> None:
        """Send requests at a steady pace, without waiting for answers. When cancelled, wait for the answers."""
        loop = asyncio.get_running_loop()
        connector = aiohttp.TCPConnector(limit=0, keepalive_timeout=KEPT)
        async with aiohttp.ClientSession(connector=connector) as client, asyncio.TaskGroup() as asking:
            at = loop.time()
            stopped = asyncio.current_task()
            assert stopped is not None
            try:
                while True:
                    at += 1 / A_SECOND
                    await asyncio.sleep(at - loop.time())
                    asking.create_task(self._ask(client))
            except asyncio.CancelledError:
                stopped.uncancel()

    async def _ask(self, client: aiohttp.ClientSession) -> None:
        session, address = self._random.choice(self._sessions), self._random.choice(self.addresses)
        try:
            if self._random.random() < 0.25:
                await self._look(client, f"{address}/session/{session}")
            else:
                await self._say(client, f"{address}/session/{session}/chat", session)
        except aiohttp.ClientError as error:
            self.failed.append(f"{address}: {error!r}")

    async def _look(self, client: aiohttp.ClientSession, url: str) -> None:
        async with client.get(url) as response:
            self._count(response.status, await response.text())

    async def _say(self, client: aiohttp.ClientSession, url: str, session: str) -> None:
        wait = self._random.choice([{}, {"Prefer": "wait=0"}, {"Prefer": "wait=20"}])
        async with client.post(url, json={"message": "hello"}, headers=wait) as response:
            if self._count(response.status, await response.text()):
                self.acknowledged[session].add((await response.json())["message_id"])

    def _count(self, status: int, body: str) -> bool:
        self.answers[status] += 1
        if status not in {200, 202}:
            self.failed.append(f"{status}: {body[:200]}")
        return status in {200, 202}


@pytest.fixture
async def surroundings(tmp_path: Path, own_redis: RedisServer) -> AsyncIterator[World]:
    database = SqliteFile(tmp_path / "sessions.db")
    async with world(tmp_path, own_redis, database, seed=1, SHUTDOWN_DELAY=DELAY) as made:
        yield made


@contextmanager
def nginx(folder: Path, doors: list[Door]) -> Iterator[str]:
    """Run nginx and return its address. It knows the front doors by address, and not that one is leaving."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    servers = " ".join(f"server 127.0.0.1:{door.port} max_fails=0;" for door in doors)
    (folder / "nginx.conf").write_text(NGINX.format(servers=servers, port=port))
    process = subprocess.Popen(["nginx", "-p", folder, "-c", "nginx.conf", "-e", "nginx.log"])
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait(20)


async def is_ready(door: Door) -> bool:
    async with aiohttp.ClientSession() as client, client.get(f"{door.url}/readyz") as response:
        return response.status == 200


async def replace(old: Door, service: list[str] | None) -> Door:
    """Replace the front doors in turn. A ``service`` is notified of an end a moment too late."""
    old.terminate()
    if service is not None:
        await asyncio.sleep(LAG)
        service.remove(old.url)
    assert await old.gone() == 0
    new = old.successor()
    await new.start()
    await until(lambda: is_ready(new))
    if service is not None:
        service.append(new.url)
    return new


async def roll(world: World, callers: Callers, service: list[str] | None) -> list[str]:
    """Return every failure that a caller or a log shows."""
    asking = asyncio.create_task(callers.run())
    complaints: list[str] = []
    try:
        for _ in range(ROUNDS):
            complaints += world.bugs()
            world.one = await replace(world.one, service)
            world.two = await replace(world.two, service)
    finally:
        asking.cancel()
        await asking
    await until(world.quiet, QUIET_WITHIN)
    for session, rows in (await world.listed()).items():
        ended = [message for message, status in rows if status == "processed"]
        if sorted(ended) != sorted(callers.acknowledged[session]):
            complaints.append(f"{session}: {len(callers.acknowledged[session])} acknowledged, {len(ended)} processed")
    print(f"\n{dict(callers.answers)} in {2 * ROUNDS} replacements, {len(callers.failed)} failed")
    return complaints + world.bugs() + callers.failed


async def test_behind_a_service(surroundings: World):
    service = surroundings.addresses()
    assert await roll(surroundings, Callers(service, surroundings.sessions), service) == []


@pytest.mark.skipif(shutil.which("nginx") is None, reason="needs nginx")
async def test_behind_nginx(surroundings: World, tmp_path: Path):
    with nginx(tmp_path, [surroundings.one, surroundings.two]) as address:
        assert await roll(surroundings, Callers([address], surroundings.sessions), None) == []
