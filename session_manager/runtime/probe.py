"""Is the pod ready? Its probe path, asked directly."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable

from session_manager.domain.session_class import Probe

QUICKEST = 0.005  # seconds between two knocks at a port on which nothing listens yet


async def until_ready(ip: str, port: int, probe: Probe, on_try: Callable[[str], None] = lambda words: None) -> None:
    """Return when the probe was answered with 2xx. The caller owns the time limit.

    ``on_try`` is told in words why a try was not enough.
    """
    loop = asyncio.get_running_loop()
    began = loop.time()
    while True:
        heard = False
        try:
            async with asyncio.timeout(probe.timeout):
                status = await _ask(ip, port, probe.path)
            if status.startswith("2"):
                return
            heard = True
            on_try(f"it answers {status}" if status else "what it answers is not HTTP")
        except TimeoutError:
            on_try(f"it takes longer than {probe.timeout:g} s to answer")
        except OSError:
            on_try("nothing listens on the port")
        # A refused connection costs next to nothing: knock more often while little time has passed, so that waiting
        # adds about a tenth to a start at most.
        patience = (loop.time() - began) / 10
        await asyncio.sleep(probe.interval if heard else min(probe.interval, max(QUICKEST, patience)))


async def _ask(ip: str, port: int, path: str) -> str:
    """The status; empty when the answer has none."""
    reader, writer = await asyncio.open_connection(ip, port, limit=4096)
    try:
        writer.write(f"GET {path} HTTP/1.1\r\nHost: {_literal(ip)}:{port}\r\nConnection: close\r\n\r\n".encode())
        answer = re.match(rb"HTTP/1\.[01] (\d{3})\b", await reader.readline())
        return answer[1].decode() if answer else ""
    except ValueError:  # a line that is longer than the reader's limit
        return ""
    finally:
        writer.transport.abort()


def _literal(ip: str) -> str:
    """As it stands in a URL."""
    return f"[{ip}]" if ":" in ip else ip
