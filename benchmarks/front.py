"""The front door under test: a process with a real Redis and a fsynced SQLite file."""

from __future__ import annotations

import asyncio
import secrets
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import psutil
from redis.asyncio import Redis

from benchmarks.cores import Cores
from benchmarks.processes import Process, cpu_of, free_port, python
from session_manager.activity.server import LocalRedis

HIGH = "1000000/minute"
LIMITS = {f"RATE_LIMIT_{name}": HIGH for name in ("CREATE", "WAKE", "CHAT", "DELETE", "DEFAULT")}
QUOTAS = ("SESSIONS_PER_USER", "AWAKE_PER_USER", "WAKES_PER_USER", "MESSAGES_PER_SESSION", "MESSAGES_PER_USER")
LIMITS |= dict.fromkeys(QUOTAS, "off")  # all sessions are those of one user
SERVE = [sys.executable, "-c", "from session_manager.cli import main; main()", "serve"]
AT_ONCE = 32  # requests in flight while sessions are prepared
AWAKE_WITHIN = 60.0


@dataclass(frozen=True, slots=True)
class Front:
    """``process``: the front door. ``others``: the processes on the path of a message, to meter their CPU."""

    port: int
    key: str
    process: Process
    redis_url: str
    redis_process: psutil.Process
    database: Path
    client: aiohttp.ClientSession

    @property
    def redis_cpu(self) -> float:
        return cpu_of(self.redis_process)

    async def call(self, method: str, path: str, json: Any = None, **headers: str) -> tuple[int, Any]:
        async with self.client.request(method, path, json=json, headers=headers) as response:
            return response.status, await response.json()

    async def expect(self, wanted: int, method: str, path: str, json: Any = None, **headers: str) -> Any:
        """Return the body of an answer that must have this status."""
        status, body = await self.call(method, path, json, **headers)
        if status != wanted:
            raise RuntimeError(f"{method} {path} was answered {status}: {body}")
        return body

    async def create(self, number: int) -> list[str]:
        """Create sessions that are never woken."""

        async def one(_: int) -> str:
            return str((await self.expect(201, "POST", "/session/create", {"user_id": "ada"}))["uuid"])

        return await gathered(one, range(number))

    async def redis_memory(self) -> int:
        """Return the bytes that Redis reports as used."""
        async with Redis.from_url(self.redis_url) as redis:
            return int((await redis.info("memory"))["used_memory"])


async def gathered(work: Any, items: Any) -> list[Any]:
    """Run ``work`` on each item, a bounded number at once, and return the results in order."""
    gate = asyncio.Semaphore(AT_ONCE)

    async def one(item: Any) -> Any:
        async with gate:
            return await work(item)

    return await asyncio.gather(*(one(item) for item in items))


@asynccontextmanager
async def front_door(
    cores: Cores,
    folder: Path,
    shared_pod: int | None = None,
    *,
    redis_with_front: bool = False,
    classes: Path | None = None,
) -> AsyncIterator[Front]:
    """``shared_pod``: the port of one pod for all sessions. If None, the front door runs each pod as a process.

    ``redis_with_front``: Redis runs on the front door's core instead of the client's. ``classes``: a file of classes.
    """
    folder.mkdir()
    async with AsyncExitStack() as stack:
        redis = LocalRedis(folder / "redis")
        if redis_with_front:
            with cores.on_servers():
                await redis.start()
        else:
            await redis.start()
        stack.push_async_callback(redis.stop)
        key, port = secrets.token_urlsafe(24), free_port()
        env = {
            "REDIS_URL": redis.url,
            "DATA_DIR": str(folder),
            "CLOUD_RUN_SESSION_DB_PATH": str(folder / "sessions.db"),
            "SESSION_API_KEYS": f"bench:{key}",
            "PORT": str(port),
            "IDLE_TIMEOUT": "3600",
            "LOG_FORMAT": "json",
            **LIMITS,
            **({"SESSION_CLASSES": str(classes)} if classes is not None else {}),
        }
        if shared_pod is not None:
            owner = Process("owner", python("benchmarks.shared_pod", shared_pod), folder, env)
            stack.callback(owner.stop)
            await asyncio.sleep(1)
        with cores.on_servers():
            process = Process("session-manager", SERVE, folder, env)
        stack.callback(process.stop)
        await process.listens(port)
        base, authorization = f"http://127.0.0.1:{port}", {"Authorization": f"Bearer {key}"}
        client = await stack.enter_async_context(aiohttp.ClientSession(base, headers=authorization))
        yield Front(port, key, process, redis.url, psutil.Process(redis.pid), folder / "sessions.db", client)
