"""Addresses of callers, each in one form, whatever proxy wrote it.

Limits and logs take an address for a caller. So a caller must not become another one by a spelling, by a port, or by
the lower half of an IPv6 address, which every host chooses for itself.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Collection
from functools import lru_cache

from session_manager.settings.kinds import Network

Address = ipaddress.IPv4Address | ipaddress.IPv6Address

MOST_HOPS = 20
LONGEST = 64  # characters: an IPv6 address with brackets, a zone and a port
NAT64 = ipaddress.IPv6Network("64:ff9b::/96")  # an IPv4 caller, seen by a host that has IPv6 only
HOST_BITS = 64


@lru_cache(maxsize=4096)
def parsed(text: str) -> Address | None:
    """Return the address, or None for anything else.

    A port, brackets, quotes and the zone of an IPv6 address are ignored. An IPv4 address that is written as an IPv6 one
    becomes the IPv4 address.
    """
    text = text[: LONGEST + 1].strip().strip('"')
    if text.startswith("["):
        text = text[1:].partition("]")[0]
    elif text.count(":") == 1:
        text = text.partition(":")[0]
    try:
        ip = ipaddress.ip_address(text.partition("%")[0])
    except ValueError:
        return None
    if isinstance(ip, ipaddress.IPv4Address):
        return ip
    if ip in NAT64 and (seen := ipaddress.IPv4Address(int(ip) & 0xFFFF_FFFF)).is_global:
        return seen
    return ip.ipv4_mapped or ip


@lru_cache(maxsize=4096)
def caller_name(text: str) -> str:
    """Return the name of the caller at an address: an IPv4 address, or the /64 network of an IPv6 one."""
    ip = parsed(text)
    if isinstance(ip, ipaddress.IPv6Address) and not ip.is_loopback:
        return str(ipaddress.IPv6Network((int(ip) >> HOST_BITS << HOST_BITS, HOST_BITS)))
    return str(ip) if ip is not None else text[:LONGEST]


class Proxies:
    """``networks``: proxies whose X-Forwarded-For is believed. ``Forwarded`` (RFC 7239) is never believed."""

    def __init__(self, networks: Collection[Network]) -> None:
        self._networks = networks

    def caller(self, forwarded: bytes | None, peer: str) -> str:
        """Return the name of the nearest address that is not a trusted proxy.

        ``peer``: the other end of the connection. The name is the peer's if every hop is trusted, or is not an address:
        the caller itself may have written the rest.
        """
        if not self._networks or forwarded is None or not self.trusts(peer):
            return caller_name(peer)
        for hop in reversed(forwarded.decode("latin-1").rsplit(",", MOST_HOPS)[-MOST_HOPS:]):
            if parsed(hop) is None:
                break
            if not self.trusts(hop):
                return caller_name(hop)
        return caller_name(peer)

    def trusts(self, address: str) -> bool:
        ip = parsed(address)
        return ip is not None and any(ip in network for network in self._networks)
