"""A pod client that believes no address that cannot be a pod's.

Addresses come from Redis.  Whoever can write there must not be able to have messages sent to anything but pods.
"""

from __future__ import annotations

from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network

from session_manager.domain.errors import PodUnreachable, StartupFailure
from session_manager.domain.session_class import SessionClass
from session_manager.podclient.protocol import DeltaListener, PodClient, TurnReply, TurnRequest
from session_manager.runtime.protocol import Address

Network = IPv4Network | IPv6Network


def parse_networks(text: str) -> tuple[Network, ...]:
    """Comma-separated networks. StartupFailure for what is none."""
    try:
        return tuple(ip_network(part.strip()) for part in text.split(",") if part.strip())
    except ValueError as error:
        raise StartupFailure(f"POD_CIDRS: {error}") from None


def believable(address: Address, session_class: SessionClass, networks: tuple[Network, ...]) -> bool:
    """An IP literal in one of ``networks`` (none given: anything but this machine's own), at the class's port."""
    try:
        ip = ip_address(address.ip)
    except ValueError:
        return False
    if ip.is_loopback or ip.is_link_local or ip.is_multicast or ip.is_unspecified:
        return False
    return address.port == session_class.port and (not networks or any(ip in network for network in networks))


class CheckedPods:
    def __init__(self, pods: PodClient, networks: tuple[Network, ...]) -> None:
        self._pods = pods
        self._networks = networks

    async def start(self) -> None:
        await self._pods.start()

    async def close(self) -> None:
        await self._pods.close()

    async def chat(
        self, address: Address, session_class: SessionClass, request: TurnRequest, on_delta: DeltaListener
    ) -> TurnReply:
        if not believable(address, session_class, self._networks):
            raise PodUnreachable("the address of the pod is none that a pod can have")
        return await self._pods.chat(address, session_class, request, on_delta)

    def drop(self, uid: str) -> None:
        self._pods.drop(uid)
