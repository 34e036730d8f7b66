"""The gateway does not connect to addresses outside the networks of pods."""

from __future__ import annotations

import pytest

from session_manager.domain.errors import PodUnreachable, StartupFailure
from session_manager.domain.session_class import SessionClass
from session_manager.podclient.gateway import PodGateway, is_allowed
from session_manager.podclient.protocol import TurnRequest
from session_manager.runtime.protocol import PodAddress
from session_manager.settings import Settings
from session_manager.settings.kinds import networks
from tests.podclient.conftest import no_sessions
from tests.podclient.raw import raw_pod

CLASS = SessionClass("default")
NETWORKS = networks("10.4.0.0/14, fd00:1::/64")


@pytest.mark.parametrize(
    ("ip", "port", "fine"),
    [
        ("10.4.1.2", 1111, True),
        ("fd00:1::7", 1111, True),
        ("10.4.1.2", 22, False),
        ("10.8.0.1", 1111, False),
        ("127.0.0.1", 1111, False),
        ("169.254.169.254", 1111, False),
        ("redis", 1111, False),
        ("10.4.1.2/32", 1111, False),
        ("", 1111, False),
    ],
)
def test_addresses_inside_the_networks_at_the_port_of_the_class_are_allowed(ip: str, port: int, fine: bool):
    assert is_allowed(PodAddress(ip, port, "u"), CLASS, NETWORKS) is fine


def test_without_networks_all_addresses_but_this_machines_are_allowed():
    assert is_allowed(PodAddress("192.168.1.1", 1111, "u"), CLASS, ())
    for ip in ("127.0.0.1", "::1", "169.254.169.254", "0.0.0.0", "224.0.0.1"):
        assert not is_allowed(PodAddress(ip, 1111, "u"), CLASS, ())


def test_an_invalid_network():
    with pytest.raises(StartupFailure, match="POD_CIDRS"):
        Settings.from_environment(pod_cidrs="10.0.0.0/99")


async def ignore(_: str) -> None: ...


async def test_a_pod_outside_the_networks_is_not_connected_to(client: PodGateway):
    request = TurnRequest("s", "ann", "m", 1, "hello")
    async with raw_pod(lambda exchange: exchange.answer(b"{}")) as pod:
        at_its_port = SessionClass("default", port=pod.address.port)
        assert await client.chat(pod.address, at_its_port, request, ignore) == "{}"
        checked = PodGateway(no_sessions, NETWORKS)
        with pytest.raises(PodUnreachable, match="pod address is outside the allowed networks"):
            await checked.chat(pod.address, at_its_port, request, ignore)
        assert len(pod.requests) == 1
