"""The targets of faults: two front doors, a Redis, a database, a data folder and the pods in it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import psutil

from tests.faults.doors import Door
from tests.faults.journal import Delivery, read_journal
from tests.faults.load import Load
from tests.faults.records import Database, unfinished
from tests.faults.verdict import Listed
from tests.servers.redis import RedisServer
from tests.waiting import until

CLASSES = Path(__file__).parent / "classes.yaml"
SESSIONS = 20
PAGE = 50


class World:
    """``one`` owns the pods at first; ``two`` is equal to it otherwise. ``settings`` apply to both."""

    def __init__(self, folder: Path, redis: RedisServer, database: Database, seed: int, **settings: str) -> None:
        self.redis = redis
        self.database = database
        self.data = folder / "data"
        self.seed = seed
        facts = {
            "REDIS_URL": redis.url,
            "DATA_DIR": str(self.data),
            "SESSION_CLASSES": str(CLASSES),
            **database.facts,
            **settings,
        }
        self.one, self.two = Door("one", folder, facts), Door("two", folder, facts)
        self.sessions: list[str] = []
        self._client = aiohttp.ClientSession()

    async def start(self) -> None:
        await self.one.start()
        await until(self.one.owns_pods)
        await self.two.start()
        for number in range(SESSIONS):
            body = {"user_id": f"user-{number}", "class": "slow" if number % 2 else "quick"}
            created = await self.call("POST", "/session/create", json=body)
            self.sessions.append(created["uuid"])

    async def stop(self) -> None:
        await self._client.close()
        doors = [door for door in (self.one, self.two) if door.running]
        for door in doors:
            door.terminate()
        await asyncio.gather(*(door.gone() for door in doors))

    def load(self, hang_up: float = 0.0) -> Load:
        return Load(self.addresses, self.sessions, self.seed, hang_up)

    def addresses(self) -> list[str]:
        """Return the addresses for clients. A killed front door stays in the list, as in a client's configuration."""
        return [self.one.url, self.two.url]

    async def call(self, method: str, path: str, **options: Any) -> Any:
        """Send a request that must succeed to a running front door."""
        door = self.one if self.one.running else self.two
        async with self._client.request(method, door.url + path, **options) as response:
            body = await response.json(content_type=None)
            assert response.status in {200, 201}, f"{method} {path}: {response.status} {body}"
            return body

    async def listed(self) -> Listed:
        """Return the message ids and statuses of each session, page by page."""
        return {session: [row async for row in self._messages(session)] for session in self.sessions}

    async def _messages(self, session: str) -> AsyncIterator[tuple[str, str]]:
        cursor = ""
        while cursor is not None:
            page = await self.call("GET", f"/session/{session}/messages?limit={PAGE}{cursor and f'&cursor={cursor}'}")
            for row in page["messages"]:
                yield row["message_id"], row["status"]
            cursor = page["next_cursor"]

    def home(self, session: str) -> Path:
        return self.data / "homes" / session

    def deliveries_of(self, session: str) -> list[Delivery]:
        return read_journal(self.home(session), session)

    def deliveries(self) -> dict[str, list[Delivery]]:
        return {session: self.deliveries_of(session) for session in self.sessions}

    async def quiet(self) -> bool:
        return await unfinished(self.database) == 0

    async def asleep(self) -> bool:
        sleeping = await self.call("GET", f"/sessions?status=sleeping&limit={SESSIONS}")
        return len(sleeping["sessions"]) == SESSIONS and not self.pods()

    def pods(self) -> list[psutil.Process]:
        """Return the processes that work in a session's HOME."""
        homes = self.data / "homes"
        found = []
        for process in psutil.process_iter(["cwd"]):
            cwd = process.info["cwd"]
            if cwd and Path(cwd).is_relative_to(homes):
                found.append(process)
        return found

    def bugs(self) -> list[str]:
        return self.one.bugs() + self.two.bugs()


@asynccontextmanager
async def world(
    folder: Path, redis: RedisServer, database: Database, seed: int, **settings: str
) -> AsyncIterator[World]:
    """Start everything and end it, including the leftovers of a killed front door."""
    made = World(folder, redis, database, seed, **settings)
    try:
        await made.start()
        yield made
    finally:
        await made.stop()
