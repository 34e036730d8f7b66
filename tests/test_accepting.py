"""A server of a test may close at any moment, also while a connection arrives."""

from __future__ import annotations

import asyncio
import gc
import socket
import warnings


async def test_a_server_that_closes_while_it_accepts_leaves_no_connection_open():
    gc.collect()  # what earlier tests left is not of interest
    with warnings.catch_warnings(record=True) as leaks:
        warnings.simplefilter("always")
        server = await asyncio.start_server(lambda reader, writer: writer.close(), "127.0.0.1", 0)
        tasks = asyncio.all_tasks()
        with socket.create_connection(server.sockets[0].getsockname(), timeout=5) as client:
            async with asyncio.timeout(5):
                while asyncio.all_tasks() == tasks:
                    await asyncio.sleep(0)
            server.close()  # a task that has not begun holds the accepted connection
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            gc.collect()
            assert client.recv(1) == b""
    assert [str(leak.message) for leak in leaks] == []
