"""Is the pod ready? Its probe path, asked directly."""

from __future__ import annotations

import asyncio
from contextlib import suppress

from session_manager.domain.session_class import Probe

QUICKEST = 0.005  # seconds between two knocks at a port on which nothing listens yet


async def until_ready(ip: str, port: int, probe: Probe) -> None:
    """Return when the probe was answered with 2xx. The caller owns the time limit."""
    loop = asyncio.get_running_loop()
    began = loop.time()
    while True:
        heard = False
        with suppress(OSError, TimeoutError, ValueError):
            async with asyncio.timeout(probe.timeout):
                heard, ready = await _ask(ip, port, probe.path)
                if ready:
                    return
        # A refused connection costs next to nothing: knock more often while little time has passed, so that waiting
        # adds about a tenth to a start at most.
        patience = (loop.time() - began) / 10
        await asyncio.sleep(probe.interval if heard else min(probe.interval, max(QUICKEST, patience)))


async def _ask(ip: str, port: int, path: str) -> tuple[bool, bool]:
    """Whether something answered, and whether it said 2xx."""
    reader, writer = await asyncio.open_connection(ip, port, limit=4096)
    try:
        writer.write(f"GET {path} HTTP/1.1\r\nHost: {_literal(ip)}:{port}\r\nConnection: close\r\n\r\n".encode())
        version, _, rest = (await reader.readline()).partition(b" ")
        return True, version.startswith(b"HTTP/1.") and rest[:1] == b"2"
    finally:
        writer.transport.abort()


def _literal(ip: str) -> str:
    """As it stands in a URL."""
    return f"[{ip}]" if ":" in ip else ip
