"""The gateway does not connect to addresses outside the networks of pods."""

from __future__ import annotations

import pytest

from session_manager.domain.errors import PodUnreachable, StartupFailure
from session_manager.domain.session_class import SessionClass
from session_manager.podclient.addresses import is_allowed
from session_manager.podclient.gateway import PodGateway
from session_manager.podclient.protocol import TurnRequest
from session_manager.runtime.protocol import PodAddress
from session_manager.settings import Settings
from session_manager.settings.kinds import Network, networks
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


@pytest.mark.parametrize(
    "ip",
    ["10.4.1.2", "172.16.0.9", "192.168.1.1", "100.64.3.4", "240.1.2.3", "8.8.8.8", "fd00:1::7", "2600:1f18::9"],
)
def test_without_networks_pods_may_be_where_clusters_put_them(ip: str):
    assert is_allowed(PodAddress(ip, 1111, "u"), CLASS, ())


NEVER_A_POD = {
    "this machine": ["127.0.0.1", "127.9.9.9", "0.0.0.0", "0.1.2.3", "::1", "::"],
    "link-local": ["169.254.169.254", "169.254.170.2", "fe80::1", "fe80::1%eth0", "febf::1", "fec0::1"],
    "metadata": ["100.100.100.200", "168.63.129.16", "192.0.0.192", "fd00:ec2::254", "fd00:ec2::23", "fd20:ce::254"],
    "multicast": ["224.0.0.1", "239.255.255.250", "255.255.255.255", "ff02::1"],
    "mapped": ["::ffff:169.254.169.254", "::ffff:127.0.0.1", "::ffff:a9fe:a9fe", "0:0:0:0:0:FFFF:A9FE:A9FE"],
    "translated": ["::ffff:0:169.254.169.254", "::169.254.169.254", "::127.0.0.1"],
    "NAT64": ["64:ff9b::a9fe:a9fe", "64:ff9b::169.254.169.254", "64:ff9b::7f00:1", "64:ff9b:1::a9fe:a9fe"],
    "6to4": ["2002:a9fe:a9fe::", "2002:7f00:1::1", "2001:0:a9fe:a9fe::1"],
    "mapped, of a private address": ["::ffff:10.4.1.2", "64:ff9b::a04:102", "2002:a04:102::"],
    "no literal": ["", "redis", "localhost", "0x7f000001", "2130706433", "127.1", "10.4.1.2%1", "fd00:1::7%1"],
}


@pytest.mark.parametrize("networks", [(), networks("0.0.0.0/0, ::/0")], ids=["any", "all"])
@pytest.mark.parametrize("kind", NEVER_A_POD)
def test_addresses_at_which_no_pod_can_be_are_refused(kind: str, networks: tuple[Network, ...]):
    assert [ip for ip in NEVER_A_POD[kind] if is_allowed(PodAddress(ip, 1111, "u"), CLASS, networks)] == []


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
