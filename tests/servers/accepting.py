"""A repair of asyncio for the servers of tests.

If a server closes in the turn of the event loop in which it accepted a connection, the construction of the transport
fails silently, and the garbage collector warns of an "unclosed transport", often in a later test
(https://github.com/python/cpython/issues/109564).
"""

from __future__ import annotations

from asyncio.selector_events import BaseSelectorEventLoop
from typing import Any

_accept = BaseSelectorEventLoop._accept_connection2  # type: ignore[attr-defined]


async def _accept_while_open(
    loop: Any, protocol: Any, connection: Any, extra: Any, tls: Any = None, server: Any = None, *more: Any
) -> None:
    if server is not None and not server.is_serving():
        connection.close()
    else:
        await _accept(loop, protocol, connection, extra, tls, server, *more)


def repair_accepting() -> None:
    BaseSelectorEventLoop._accept_connection2 = _accept_while_open  # type: ignore[attr-defined]
