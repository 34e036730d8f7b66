"""Connections are kept, but not used if the pod could not receive a message."""

from __future__ import annotations

import asyncio
import socket
import uuid

import pytest

from session_manager.domain.errors import PodDied
from session_manager.podclient import gateway
from session_manager.podclient.gateway import PodGateway
from session_manager.runtime.protocol import PodAddress
from tests.podclient.conftest import Ask
from tests.podclient.raw import Exchange, RawPod, raw_pod
from tests.runtime.programs import linux_only
from tests.waiting import until


async def answer(exchange: Exchange) -> None:
    await exchange.answer(b'{"number": %d}' % exchange.number)


async def test_a_connection_is_kept_for_the_next_turn(ask: Ask) -> None:
    async with raw_pod(answer) as pod:
        for _ in range(5):
            assert await ask(pod) == '{"number": 1}'


async def test_a_caller_that_waits_for_a_pod_that_is_gone_is_notified(ask: Ask, client: PodGateway) -> None:
    """The network may never report it."""
    asked = asyncio.Event()

    async def never(exchange: Exchange) -> None:
        asked.set()
        await exchange.reader.read()

    async with raw_pod(never) as pod:
        asking = asyncio.create_task(ask(pod))
        await asked.wait()
        client.drop(str(uuid.uuid4()))
        client.drop(pod.address.uid)
        with pytest.raises(PodDied, match="the pod is gone"):
            await asking
        client.drop(pod.address.uid)


async def test_dropping_a_pod_between_turns_fails_no_later_turn(ask: Ask, client: PodGateway) -> None:
    async with raw_pod(answer) as pod:
        await ask(pod)
        client.drop(pod.address.uid)
        assert await ask(pod) == '{"number": 1}'


@linux_only
async def test_a_pod_whose_node_is_gone_is_noticed_by_the_kernel(ask: Ask) -> None:
    """Within half a minute, also while the pod only works and no data is sent."""
    options = (socket.TCP_KEEPIDLE, socket.TCP_KEEPINTVL, socket.TCP_KEEPCNT, socket.TCP_USER_TIMEOUT)
    seen: list[list[int]] = []
    notice = gateway._detect_death

    def look(connection: socket.socket) -> None:
        notice(connection)
        seen.append([connection.getsockopt(socket.IPPROTO_TCP, option) for option in options])
        assert connection.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(gateway, "_detect_death", look)
        async with raw_pod(answer) as pod:
            await ask(pod)
    [[idle, every, count, unacknowledged]] = seen
    assert idle + every * count <= 30
    assert unacknowledged <= 30_000


async def test_one_connection_per_pod_is_kept(ask: Ask) -> None:
    async with raw_pod(answer) as pod:
        await asyncio.gather(*(ask(pod) for _ in range(5)))
        await until(lambda: pod.open == 1)


async def test_another_pod_on_the_same_port_is_another_pod(ask: Ask) -> None:
    async with raw_pod(answer) as pod:
        await ask(pod)
        other = RawPod(PodAddress(pod.address.ip, pod.address.port, str(uuid.uuid4())))
        assert await ask(other) == '{"number": 2}'


async def test_an_idle_connection_is_closed_after_a_while(ask: Ask, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gateway, "KEEP", 0.05)
    async with raw_pod(answer) as pod, raw_pod(answer) as other:
        await ask(pod)
        await ask(other)
        await until(lambda: pod.open == other.open == 0)
        assert await ask(pod) == '{"number": 2}'


async def test_a_connection_that_is_too_old_is_not_used_even_if_it_was_not_closed(
    ask: Ask, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with raw_pod(answer) as pod:
        await ask(pod)
        monkeypatch.setattr(gateway, "KEEP", 0.0)
        assert await ask(pod) == '{"number": 2}'


async def test_a_connection_that_the_pod_closed_while_idle_is_not_a_death(ask: Ask) -> None:
    """This also holds before the event loop notices: there is no await between the pod's closing and the next turn."""
    exchanges: list[Exchange] = []

    async def keep(exchange: Exchange) -> None:
        exchanges.append(exchange)
        await answer(exchange)

    async with raw_pod(keep) as pod:
        for number in range(1, 20):
            assert await ask(pod) == b'{"number": %d}'.decode() % number
            exchanges[-1].writer.get_extra_info("socket")._sock.shutdown(2)


async def test_a_reply_that_says_close_is_the_last(ask: Ask) -> None:
    async with raw_pod(lambda exchange: exchange.answer(b"{}", more="Connection: close\r\n")) as pod:
        await ask(pod)
        await ask(pod)
        assert pod.connections == 2


async def test_a_connection_is_not_kept_after_a_failure(ask: Ask) -> None:
    async def fail(exchange: Exchange) -> None:
        if exchange.number == 1 and len(pod.requests) == 2:
            exchange.hang_up()
        else:
            await answer(exchange)

    async with raw_pod(fail) as pod:
        await ask(pod)
        with pytest.raises(PodDied):  # it has read the message and may have acted on it
            await ask(pod)
        assert len(pod.requests) == 2
        assert await ask(pod) == '{"number": 2}'


async def test_closing_the_client_closes_its_connections(ask: Ask, client) -> None:
    async with raw_pod(answer) as pod:
        await ask(pod)
        await client.close()
        await until(lambda: pod.open == 0)
