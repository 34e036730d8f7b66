"""The addresses that session pods reach, and those that reach them, as the policies of the chart evaluate.

The expectations come from the registries of IANA for special-purpose addresses, not from the policy: from the table
below, and from Python's ``ipaddress``, which follows the same registries.
"""

from __future__ import annotations

import ipaddress
import json
from functools import cache
from typing import Any

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from session_manager.runtime.kubernetes import names
from tests.chart.helm import needs_helm, render
from tests.chart.reach import Peer, allows

pytestmark = needs_helm

Json = dict[str, Any]

SESSION = Peer("people", names.session_labels("8c5f1f4e-3b1a-4a5e-9d38-2f1f0a7e6b11", "tutor", "ann"))
WARM = Peer("people", names.warm_labels("tutor"))
DOOR = Peer("prod", {"app": "session-manager", "app.kubernetes.io/instance": "sm"})
OPERATOR = Peer("prod", {"app": "session-operator", "app.kubernetes.io/instance": "sm"})
REDIS = Peer("prod", {"app": "session-manager-redis", "app.kubernetes.io/instance": "sm"})
POSTGRES = Peer("prod", {"app": "session-manager-postgres", "app.kubernetes.io/instance": "sm"})
KEDA = Peer("keda", {"app": "keda-operator"})
STRANGER = Peer("shop", {"app": "session-manager", "app.kubernetes.io/instance": "sm"})
DNS = Peer("kube-system", {"k8s-app": "kube-dns"})

# Of the registries "IANA IPv4 / IPv6 Special-Purpose Address Space" and of the manuals of clouds.
NEVER = {
    "this network": "0.0.0.1",
    "private 10": "10.96.0.1",
    "carrier-grade NAT": "100.64.0.1",
    "metadata of Alibaba Cloud": "100.100.100.200",
    "loopback": "127.0.0.1",
    "wire server of Azure": "168.63.129.16",
    "metadata of most clouds": "169.254.169.254",
    "private 172": "172.31.255.254",
    "protocol assignments": "192.0.0.1",
    "DS-Lite": "192.0.0.170",
    "metadata of Oracle Cloud": "192.0.0.192",
    "documentation 1": "192.0.2.1",
    "6to4 relay": "192.88.99.1",
    "private 192": "192.168.1.1",
    "benchmarking": "198.19.255.254",
    "documentation 2": "198.51.100.7",
    "documentation 3": "203.0.113.7",
    "multicast": "224.0.0.251",
    "reserved": "240.0.0.1",
    "broadcast": "255.255.255.255",
    "unspecified 6": "::",
    "loopback 6": "::1",
    "IPv4-mapped metadata": "::ffff:169.254.169.254",
    "IPv4-mapped public": "::ffff:1.1.1.1",
    "IPv4-compatible": "::10.0.0.1",
    "NAT64 of metadata": "64:ff9b::a9fe:a9fe",
    "NAT64 of a public address": "64:ff9b::101:101",
    "NAT64 of a private network": "64:ff9b:1::a9fe:a9fe",
    "discard": "100::1",
    "Teredo": "2001::1",
    "benchmarking 6": "2001:2::1",
    "ORCHID": "2001:20::1",
    "documentation 6": "2001:db8::1",
    "6to4 of a private address": "2002:a00:1::1",
    "documentation 6, newer": "3fff::1",
    "segment routing": "5f00::1",
    "metadata of AWS": "fd00:ec2::254",
    "metadata of Google": "fd20:ce::254",
    "link-local 6": "fe80::1",
    "site-local": "fec0::1",
    "multicast 6": "ff02::1",
}
PUBLIC = ["1.1.1.1", "8.8.8.8", "9.255.255.255", "11.0.0.1", "100.63.255.255", "100.128.0.1", "168.63.129.15"]
PUBLIC += ["172.15.255.255", "172.32.0.1", "192.0.1.1", "192.167.255.255", "198.17.255.255", "198.20.0.1"]
PUBLIC += ["223.255.255.255", "2606:4700:4700::1111", "2001:4860:4860::8888", "2a00:1450:4001:80b::200e"]


@cache
def _policies(network: str) -> list[Json]:
    values = {"sessions": {"namespace": "people"}, "networkPolicy": json.loads(network)}
    return [each for each in render(values).items if each["kind"] == "NetworkPolicy"]


def policies(**network: Any) -> list[Json]:
    return _policies(json.dumps(network))


def reaches(address: str, port: int = 443, protocol: str = "TCP", **network: Any) -> bool:
    return allows(policies(**network), "egress", SESSION, Peer(address=address), port, protocol)


@pytest.mark.parametrize("address", NEVER.values(), ids=NEVER)
def test_no_special_address_is_reached(address: str):
    assert not any(reaches(address, port) for port in (53, 80, 443, 8080))


@pytest.mark.parametrize("address", PUBLIC)
def test_public_addresses_are_reached_at_the_named_ports_only(address: str):
    assert [port for port in (22, 25, 53, 80, 443, 6379, 8080) if reaches(address, port)] == [80, 443]
    assert not reaches(address, 443, "UDP")
    assert reaches(address, 8443, publicPorts=[8443])
    assert not reaches(address, publicPorts=[])


@settings(deadline=None)  # the first example renders the chart
@given(st.one_of(st.ip_addresses(v=4), st.ip_addresses(v=6)))
def test_what_python_calls_special_is_not_reached(address: ipaddress.IPv4Address | ipaddress.IPv6Address):
    assume(not address.is_global or address.is_multicast or address.is_reserved)
    assert not reaches(str(address))


def test_networks_of_the_values():
    allowed = [{"cidr": "10.20.0.0/24", "ports": [5432]}, {"cidr": "fd00:1::/64"}]
    denied = ["34.1.2.0/24", "2a00:1::/32", "fc00::/7"]  # the last one is outside anyway
    more: Json = {"allowedCIDRs": allowed, "deniedCIDRs": denied}
    assert reaches("10.20.0.7", 5432, **more)
    assert reaches("fd00:1::7", 1234, **more)
    assert not any([reaches("10.20.0.7", 443, **more), reaches("10.20.1.7", 5432, **more)])
    assert not any([reaches("34.1.2.3", **more), reaches("2a00:1::3", **more)])
    assert all([reaches("34.1.3.3", **more), reaches("2a00:2::3", **more)])


@pytest.mark.parametrize("pod", [SESSION, WARM], ids=["session", "warm"])
def test_pods_of_the_cluster(pod: Peer):
    found = policies()
    assert allows(found, "egress", pod, DOOR, 8080)
    assert all(allows(found, "egress", pod, DNS, 53, protocol) for protocol in ("UDP", "TCP"))
    for peer in (OPERATOR, REDIS, POSTGRES, STRANGER, WARM, SESSION, Peer("kube-system", {"app": "x"})):
        assert not any(allows(found, "egress", pod, peer, port) for port in (53, 80, 443, 5432, 6379, 8080, 8081))
    assert not allows(found, "egress", pod, DNS, 443)
    assert {
        name: allows(found, "ingress", pod, peer, 1111)
        for name, peer in {"door": DOOR, "operator": OPERATOR, "redis": REDIS, "stranger": STRANGER}.items()
    } == {"door": True, "operator": True, "redis": False, "stranger": False}
    assert not any(allows(found, "ingress", pod, peer, 1111) for peer in (WARM, SESSION, Peer(address="8.8.8.8")))


def test_redis_and_postgres():
    found = policies()
    assert [each for each in (DOOR, OPERATOR, KEDA) if allows(found, "ingress", REDIS, each, 6379)] == [
        DOOR,
        OPERATOR,
        KEDA,
    ]
    for peer in (SESSION, WARM, STRANGER, Peer(address="10.0.0.1")):
        assert not allows(found, "ingress", REDIS, peer, 6379)
        assert not allows(found, "ingress", POSTGRES, peer, 5432)
    assert allows(found, "ingress", POSTGRES, DOOR, 5432)
    assert not allows(found, "ingress", POSTGRES, OPERATOR, 5432)
    assert not allows(found, "egress", REDIS, Peer(address="1.1.1.1"), 443)
