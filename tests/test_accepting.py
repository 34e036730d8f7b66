"""A server of a test may close at any moment, also while a connection arrives."""

from __future__ import annotations

import asyncio
import gc
import socket
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from tests.podclient.raw import raw_pod


@contextmanager
def nothing_left_open() -> Iterator[None]:
    gc.collect()  # what earlier tests left is not of interest
    with warnings.catch_warnings(record=True) as leaks:
        warnings.simplefilter("always")
        yield
        gc.collect()
    assert [str(leak.message) for leak in leaks] == []


async def until_a_task_is_made() -> None:
    tasks = asyncio.all_tasks()
    async with asyncio.timeout(5):
        while asyncio.all_tasks() <= tasks:
            await asyncio.sleep(0)


async def test_a_server_that_closes_while_it_accepts_leaves_no_connection_open():
    with nothing_left_open():
        server = await asyncio.start_server(lambda reader, writer: writer.close(), "127.0.0.1", 0)
        with socket.create_connection(server.sockets[0].getsockname(), timeout=5) as client:
            await until_a_task_is_made()
            server.close()  # a task that has not begun holds the accepted connection
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            gc.collect()
            assert client.recv(1) == b""


@pytest.mark.skipif(sys.version_info >= (3, 12), reason="since 3.12 wait_closed waits for this connection")
async def test_a_raw_pod_that_ends_before_it_serves_leaves_no_connection_open():
    with nothing_left_open():
        async with raw_pod(lambda exchange: exchange.answer(b"{}")) as pod:
            client = socket.create_connection((pod.address.ip, pod.address.port), timeout=5)
            await until_a_task_is_made()  # asyncio's, which makes the transport
            await until_a_task_is_made()  # the pod's
            assert pod.connections == 0
        for _ in range(3):
            await asyncio.sleep(0)
        with client:
            assert client.recv(1) == b""
