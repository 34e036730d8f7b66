"""A front door in this process, on a free port, with real parts behind it."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager, contextmanager
from json import loads
from pathlib import Path
from typing import Any

import aiohttp
import uvicorn

from session_manager.api.front import build_app
from session_manager.serving.process import with_own_address
from session_manager.settings import Settings
from session_manager.wiring.services import Services

SHORT = {
    "lease": 1.5,
    "repair_interval": 0.3,
    "heartbeat": 1.0,
    "retry_first": 0.3,
    "idle_timeout": 60.0,
    "shutdown_timeout": 5.0,
    "answer_within": 10.0,
    "rate_limit_create": "off",
    "rate_limit_chat": "off",
    "rate_limit_wake": "off",
    "rate_limit_delete": "off",
    "rate_limit_default": "off",
    "rate_limit_failed_keys": "off",
}


def settings_for(tmp_path: Path, redis_url: str, **overrides: Any) -> Settings:
    facts = {"redis_url": redis_url, "cloud_run_session_db_path": tmp_path / "sessions.db", "data_dir": tmp_path}
    return Settings.from_environment(**{**SHORT, **facts, **overrides})


class FrontDoor:
    """``url``: its address. Requests use a client session of their own."""

    def __init__(self, services: Services, url: str, client: aiohttp.ClientSession) -> None:
        self.services = services
        self.url = url
        self.client = client

    async def call(self, method: str, path: str, json: Any = None, **options: Any) -> tuple[int, Any]:
        async with self.client.request(method, self.url + path, json=json, **options) as response:
            return response.status, await response.json(content_type=None)

    async def create(self, **fields: Any) -> str:
        status, body = await self.call("POST", "/session/create", {"user_id": "ada", **fields})
        assert status == 201, body
        return str(body["uuid"])

    async def chat(self, session: str, message: str, wait: int | None = 20, **headers: str) -> tuple[int, Any]:
        if wait is not None:
            headers["Prefer"] = f"wait={wait}"
        return await self.call("POST", f"/session/{session}/chat", {"message": message}, headers=headers)

    async def status(self, session: str) -> str:
        status, body = await self.call("GET", f"/session/{session}")
        assert status == 200, body
        return str(body["status"])

    async def until_status(self, session: str, wanted: str, seconds: float = 20) -> None:
        async with asyncio.timeout(seconds):
            while await self.status(session) != wanted:
                await asyncio.sleep(0.02)


async def events(response: aiohttp.ClientResponse) -> AsyncGenerator[tuple[str, Any], None]:
    """Yield the kind and the data of each event of a stream."""
    kind = ""
    async for line in response.content:
        name, _, value = line.decode().rstrip("\n").partition(": ")
        if name == "event":
            kind = value
        elif name == "data":
            yield kind, loads(value)


@asynccontextmanager
async def front_door(settings: Settings) -> AsyncIterator[FrontDoor]:
    listening = socket.create_server(("127.0.0.1", 0))
    # Else asyncio leaves Nagle's algorithm on, and a second write waits for the client's delayed acknowledgement.
    listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    settings = with_own_address(settings, listening)
    services = Services(settings)
    await services.start()
    app = build_app(services)
    config = uvicorn.Config(app, lifespan="off", log_config=None, access_log=False, proxy_headers=False)
    server = _Server(config)
    serving = asyncio.create_task(server.serve(sockets=[listening]))
    try:
        async with aiohttp.ClientSession() as client:
            yield FrontDoor(services, f"http://127.0.0.1:{listening.getsockname()[1]}", client)
    finally:
        services.stop_taking_work()
        server.should_exit = True
        await serving
        await services.close()


class _Server(uvicorn.Server):
    """Leaves the signals to the test runner."""

    @contextmanager
    def capture_signals(self):
        yield
