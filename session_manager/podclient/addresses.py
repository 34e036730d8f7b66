"""The addresses at which a pod may be.

Addresses come from Redis.  An attacker who can write there must not be able to direct messages to anything but pods.

The ranges are listed here, because what Python's ``ipaddress`` thinks of an address depends on its version: until 3.12
an IPv4 address inside an IPv6 address was neither loopback nor link-local.
"""

from __future__ import annotations

from ipaddress import ip_address, ip_network

from session_manager.domain.session_class import SessionClass
from session_manager.runtime.protocol import PodAddress
from session_manager.settings.kinds import Network

# Private ranges are where pods are, and some clouds give pods 100.64.0.0/10, 192.0.0.0/24 or 240.0.0.0/4.
_NEVER = (
    "0.0.0.0/8",  # this machine
    "127.0.0.0/8",
    "169.254.0.0/16",  # link-local, and the metadata of most clouds
    "100.100.100.200/32",  # metadata of Alibaba Cloud
    "168.63.129.16/32",  # the host of a virtual machine on Azure
    "192.0.0.192/32",  # metadata of Oracle Cloud
    "224.0.0.0/4",  # multicast
    "255.255.255.255/32",
    "::/96",  # this machine, and IPv4 inside IPv6 in its oldest form
    "::ffff:0:0/96",  # IPv4 mapped to IPv6
    "::ffff:0:0:0/96",  # IPv4 translated
    "64:ff9b::/96",  # NAT64
    "64:ff9b:1::/48",  # NAT64 of one's own network
    "2001::/32",  # Teredo
    "2002::/16",  # 6to4
    "fd00:ec2::/32",  # metadata of AWS
    "fd20:ce::254/128",  # metadata of Google Cloud
    "fe80::/10",  # link-local
    "fec0::/10",  # site-local, which no longer exists
    "ff00::/8",  # multicast
)
NEVER: tuple[Network, ...] = tuple(map(ip_network, _NEVER))


def is_allowed(address: PodAddress, session_class: SessionClass, networks: tuple[Network, ...]) -> bool:
    """Return True for an IP literal in one of ``networks``, at the port of the class.

    Without networks every address is allowed except ``NEVER``, which no network can allow.
    """
    try:
        ip = ip_address(address.ip)
    except ValueError:
        return False
    if "%" in address.ip or any(ip in network for network in NEVER):
        return False
    return address.port == session_class.port and (not networks or any(ip in network for network in networks))
