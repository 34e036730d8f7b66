"""A server in front of the bucket that refuses, is silent, or stops in the middle."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import aiohttp
from aiohttp import web

Rule = Callable[[web.BaseRequest], int | None]
"""A status to answer in the server's place, ``SILENCE``, or None to pass the request on."""

SILENCE = 0


class Proxy:
    """``rule`` decides about each request; ``held`` is set once one is met with silence."""

    def __init__(self, behind: str, client: aiohttp.ClientSession) -> None:
        self._behind = behind
        self._client = client
        self.host = ""
        self.rule: Rule = lambda request: None
        self.held = asyncio.Event()
        self.asked: list[str] = []

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        self.asked.append(f"{request.method} {request.path_qs}")
        status = self.rule(request)
        if status == SILENCE:
            self.held.set()
            await asyncio.sleep(3600)
        if status is not None:
            return web.json_response({"error": {"code": status, "message": "not for you"}}, status=status)
        return await self._pass_on(request)

    async def _pass_on(self, request: web.BaseRequest) -> web.Response:
        headers = {name: value for name, value in request.headers.items() if name.lower() not in _HOP}
        url = f"http://{self._behind}{request.raw_path}" if isinstance(request, web.Request) else self._url(request)
        async with self._client.request(
            request.method, url, headers=headers, data=await request.read(), allow_redirects=False
        ) as response:
            body = await response.read()
            kept = {name: value for name, value in response.headers.items() if name.lower() not in _HOP}
            if "Location" in kept:  # of an upload: its blocks have to come this way too
                kept["Location"] = kept["Location"].replace(self._behind, self.host)
            return web.Response(status=response.status, body=body, headers=kept)

    def _url(self, request: web.BaseRequest) -> str:
        return f"http://{self._behind}{request.raw_path}"


_HOP = {"host", "content-length", "transfer-encoding", "connection", "content-encoding", "accept-encoding"}


@asynccontextmanager
async def proxy(behind: str) -> AsyncIterator[Proxy]:
    async with aiohttp.ClientSession(skip_auto_headers=["Accept-Encoding"]) as client:
        served = Proxy(behind, client)
        runner = web.ServerRunner(web.Server(served.handle, handler_cancellation=True), handle_signals=False, shutdown_timeout=0)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        served.host = f"127.0.0.1:{runner.addresses[0][1]}"
        try:
            yield served
        finally:
            await runner.cleanup()
