"""The gateway to pods: checks the address, then speaks the protocol of the session's class.

Addresses come from Redis.  Whoever can write there must not be able to direct messages to anything but pods.
"""

from __future__ import annotations

from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network

import orjson

from session_manager.domain.errors import PodDied, PodUnreachable, StartupFailure
from session_manager.domain.session_class import PodProtocol, SessionClass
from session_manager.podclient.adk import AdkPods, StoredSessions
from session_manager.podclient.pool import PodPool
from session_manager.podclient.protocol import DeltaListener, TurnReply, TurnRequest
from session_manager.podclient.replies import CUT_SHORT, check_answer, json_text, reply_text
from session_manager.podclient.streams import follow
from session_manager.runtime.protocol import Address

Network = IPv4Network | IPv6Network


def parse_networks(text: str) -> tuple[Network, ...]:
    """Parse comma-separated networks. StartupFailure if one is invalid."""
    try:
        return tuple(ip_network(part.strip()) for part in text.split(",") if part.strip())
    except ValueError as error:
        raise StartupFailure(f"POD_CIDRS: {error}") from None


def is_allowed(address: Address, session_class: SessionClass, networks: tuple[Network, ...]) -> bool:
    """Return True for an IP literal in one of ``networks``, at the port of the class.

    Without networks every address is allowed, except those of this machine and its link.
    """
    try:
        ip = ip_address(address.ip)
    except ValueError:
        return False
    if ip.is_loopback or ip.is_link_local or ip.is_multicast or ip.is_unspecified:
        return False
    return address.port == session_class.port and (not networks or any(ip in network for network in networks))


class PodGateway:
    """The PodClient of a front door. A message is never sent twice: whether to try again is up to the caller.

    ``sessions`` reads the stored history for pods that speak ADK. ``networks``: see ``is_allowed``; None allows every
    address, as where pods are processes of this machine.
    """

    def __init__(self, sessions: StoredSessions, networks: tuple[Network, ...] | None = None) -> None:
        self._networks = networks
        self._pool = PodPool()
        self._adk = AdkPods(self._pool, sessions)

    async def close(self) -> None:
        self._pool.close()

    async def chat(
        self, address: Address, session_class: SessionClass, request: TurnRequest, on_delta: DeltaListener
    ) -> TurnReply:
        if self._networks is not None and not is_allowed(address, session_class, self._networks):
            raise PodUnreachable("pod address is outside the allowed networks")
        if session_class.protocol is PodProtocol.ADK:
            return await self._adk.chat(address, request, on_delta)
        return await self._chat(address, request, on_delta)

    def drop(self, uid: str) -> None:
        self._adk.forget(uid)
        self._pool.drop(uid)

    async def _chat(self, address: Address, request: TurnRequest, on_delta: DeltaListener) -> TurnReply:
        """``POST /chat``, answered at once or as a stream of events."""
        async with self._pool.exchange(address, request, "POST /chat", _body(request)) as connection:
            await connection.answer()
            if connection.streams:
                return TurnReply(await follow(connection, on_delta))
            body = bytes(connection.body)
            check_answer(connection.status, connection.headers, body)
            if not connection.framed and json_text(body)[0] is None:
                raise PodDied(CUT_SHORT)
            return TurnReply(reply_text(body))


def _body(request: TurnRequest) -> bytes:
    return orjson.dumps(
        {
            "message": request.text,
            "message_id": request.message_id,
            "session_id": request.session,
            "user_id": request.user_id,
        }
    )
