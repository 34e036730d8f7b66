"""The least that Python can do between a caller and a pod: raw ASGI and aiohttp, without storage, checks or limits.

``python -m benchmarks.passthrough PORT POD_PORT``
"""

from __future__ import annotations

import sys
from collections.abc import Awaitable, Callable
from typing import Any

import aiohttp
import uvicorn

Receive = Callable[[], Awaitable[dict[str, Any]]]
Send = Callable[[dict[str, Any]], Awaitable[None]]


class PassThrough:
    def __init__(self, pod_port: int) -> None:
        self._url = f"http://127.0.0.1:{pod_port}/chat"
        self._client: aiohttp.ClientSession | None = None

    async def __call__(self, scope: dict[str, Any], receive: Receive, send: Send) -> None:
        body = await _body(receive)
        client = self._client
        if client is None:
            # No cookies and no time-outs: each would cost a pass-through a tenth of its rate.
            client = self._client = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(limit=0),
                cookie_jar=aiohttp.DummyCookieJar(),
                timeout=aiohttp.ClientTimeout(total=None),
                auto_decompress=False,
            )
        async with client.post(self._url, data=body, headers={"Content-Type": "application/json"}) as response:
            reply = await response.read()
        headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(reply))]
        await send({"type": "http.response.start", "status": response.status, "headers": headers})
        await send({"type": "http.response.body", "body": reply})


async def _body(receive: Receive) -> bytes:
    message = await receive()
    body: bytes = message["body"]
    while message.get("more_body"):
        message = await receive()
        body += message["body"]
    return body


def main(port: int, pod_port: int) -> None:
    uvicorn.run(PassThrough(pod_port), port=port, loop="uvloop", http="httptools", lifespan="off", log_level="warning")


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]))
