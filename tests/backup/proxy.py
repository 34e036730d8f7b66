"""A server in front of the bucket that rejects requests, is silent, or stops in the middle."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import aiohttp
from aiohttp import web
from yarl import URL

from tests.waiting import until

Rule = Callable[[web.Request], int | None]
"""Returns a status to answer instead of the server, ``SILENCE``, or None to pass the request on."""

SILENCE = 0


class Proxy:
    """``rule`` decides about each request; ``held`` is set once a request gets no answer."""

    def __init__(self, behind: str, client: aiohttp.ClientSession) -> None:
        self._behind = behind
        self._client = client
        self.host = ""
        self.rule: Rule = lambda request: None
        self.held = asyncio.Event()
        self.over = asyncio.Event()
        self.asked: list[str] = []

    async def handle(self, request: web.Request) -> web.StreamResponse:
        self.asked.append(f"{request.method} {request.path_qs}")
        status = self.rule(request)
        if status == SILENCE:
            self.held.set()
            await self.over.wait()
            status = 503
        if status is not None:
            return web.json_response({"error": {"code": status, "message": "not for you"}}, status=status)
        return await self._pass_on(request)

    async def _pass_on(self, request: web.Request) -> web.Response:
        headers = {name: value for name, value in request.headers.items() if name.lower() not in _HOP}
        url = URL(f"http://{self._behind}{request.raw_path}", encoded=True)
        async with self._client.request(
            request.method, url, headers=headers, data=await request.read(), allow_redirects=False
        ) as response:
            body = await response.read()
            kept = {name: value for name, value in response.headers.items() if name.lower() not in _HOP}
            if "Location" in kept:  # of an upload, whose blocks have to come this way too
                kept["Location"] = kept["Location"].replace(self._behind, self.host)
            return web.Response(status=response.status, body=body, headers=kept)


_HOP = {"host", "content-length", "transfer-encoding", "connection", "content-encoding", "accept-encoding"}


@asynccontextmanager
async def proxy(behind: str) -> AsyncIterator[Proxy]:
    async with aiohttp.ClientSession(skip_auto_headers=["Accept-Encoding"]) as client:
        served = Proxy(behind, client)
        app = web.Application(client_max_size=64 * 1024 * 1024)
        app.router.add_route("*", "/{path:.*}", served.handle)
        runner = web.AppRunner(app, shutdown_timeout=1, lingering_time=0)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        served.host = f"127.0.0.1:{runner.addresses[0][1]}"
        try:
            yield served
        finally:
            served.over.set()
            await runner.cleanup()
            await until(lambda: not any("RequestHandler" in repr(task) for task in asyncio.all_tasks()))
