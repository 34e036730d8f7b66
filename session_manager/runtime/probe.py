"""The readiness probe: GET requests to the pod itself."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable

from session_manager.domain.session_class import Probe

SHORTEST_PAUSE = 0.005  # seconds between attempts to connect to a port on which nothing listens yet


async def until_ready(ip: str, port: int, probe: Probe, on_try: Callable[[str], None] = lambda result: None) -> None:
    """Return when the pod answers the probe with 2xx. The caller sets the time limit.

    ``on_try`` receives the result of each failed attempt, as text for a person.
    """
    loop = asyncio.get_running_loop()
    began = loop.time()
    while True:
        answered = False
        try:
            async with asyncio.timeout(probe.timeout):
                status = await _ask(ip, port, probe.path)
            if status.startswith("2"):
                return
            answered = True
            on_try(f"it answers {status}" if status else "its answer is not HTTP")
        except TimeoutError:
            on_try(f"it takes longer than {probe.timeout:g} s to answer")
        except OSError:
            on_try("nothing listens on the port")
        # A refused connection costs almost nothing. Frequent attempts at first make a start a tenth longer at most.
        patience = (loop.time() - began) / 10
        await asyncio.sleep(probe.interval if answered else min(probe.interval, max(SHORTEST_PAUSE, patience)))


async def _ask(ip: str, port: int, path: str) -> str:
    """Return the status, or an empty string if the answer has none."""
    host = f"[{ip}]" if ":" in ip else ip
    reader, writer = await asyncio.open_connection(ip, port, limit=4096)
    try:
        writer.write(f"GET {path} HTTP/1.1\r\nHost: {host}:{port}\r\nConnection: close\r\n\r\n".encode())
        answer = re.match(rb"HTTP/1\.[01] (\d{3})\b", await reader.readline())
        return answer[1].decode() if answer else ""
    except ValueError:  # the line is longer than the reader's limit
        return ""
    finally:
        writer.transport.abort()
