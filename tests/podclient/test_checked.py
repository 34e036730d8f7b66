"""Addresses that no pod can have are not connected to."""

from __future__ import annotations

import pytest

from session_manager.domain.errors import PodUnreachable, StartupFailure
from session_manager.domain.session_class import SessionClass
from session_manager.podclient.checked import CheckedPods, believable, parse_networks
from session_manager.podclient.protocol import DeltaListener, TurnReply, TurnRequest
from session_manager.runtime.protocol import Address

CLASS = SessionClass("default")
NETWORKS = parse_networks("10.4.0.0/14, fd00:1::/64")


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
def test_inside_the_networks_of_pods_at_the_port_of_the_class(ip: str, port: int, fine: bool):
    assert believable(Address(ip, port, "u"), CLASS, NETWORKS) is fine


def test_without_networks_all_but_this_machine():
    assert believable(Address("192.168.1.1", 1111, "u"), CLASS, ())
    for ip in ("127.0.0.1", "::1", "169.254.169.254", "0.0.0.0", "224.0.0.1"):
        assert not believable(Address(ip, 1111, "u"), CLASS, ())


def test_a_network_that_is_none():
    with pytest.raises(StartupFailure, match="POD_CIDRS"):
        parse_networks("10.0.0.0/99")


class Pods:
    """Counts what reaches it."""

    def __init__(self) -> None:
        self.asked: list[Address] = []

    async def start(self) -> None: ...
    async def close(self) -> None: ...
    def drop(self, uid: str) -> None: ...

    async def chat(
        self, address: Address, session_class: SessionClass, request: TurnRequest, on_delta: DeltaListener
    ) -> TurnReply:
        self.asked.append(address)
        return TurnReply("{}")


async def ignore(_: str) -> None: ...


async def test_what_is_not_believed_is_not_asked():
    pods = Pods()
    checked = CheckedPods(pods, NETWORKS)
    request = TurnRequest("s", "ann", "m", 1, "hello")
    inside, outside = Address("10.4.1.2", 1111, "u"), Address("10.8.1.2", 1111, "u")
    assert (await checked.chat(inside, CLASS, request, ignore)).response == "{}"
    with pytest.raises(PodUnreachable):
        await checked.chat(outside, CLASS, request, ignore)
    assert pods.asked == [inside]
