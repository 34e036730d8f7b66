"""An evaluator of NetworkPolicies: may this pod connect to that peer? As the Kubernetes documentation defines it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from ipaddress import ip_address, ip_network
from typing import Any

Json = dict[str, Any]


@dataclass(frozen=True)
class Peer:
    """A pod, with the name of its namespace and its labels; or, without a namespace, an address outside."""

    namespace: str = ""
    labels: Json = field(default_factory=dict)
    address: str = ""


def matches(selector: Json, labels: Json) -> bool:
    """Return True if a label selector selects these labels."""
    if not selector.get("matchLabels", {}).items() <= labels.items():
        return False
    for each in selector.get("matchExpressions", ()):
        value, values = labels.get(each["key"]), each.get("values", ())
        holds = {
            "In": value in values,
            "NotIn": value not in values,
            "Exists": each["key"] in labels,
            "DoesNotExist": each["key"] not in labels,
        }
        if not holds[each["operator"]]:
            return False
    return True


def contains(block: Json, address: str) -> bool:
    """Return True if an ipBlock contains the address and does not except it."""
    one = ip_address(address)

    def within(cidr: str) -> bool:
        network = ip_network(cidr)
        return one.version == network.version and one in network

    return within(block["cidr"]) and not any(map(within, block.get("except", ())))


def _is_peer(rule: Json, namespace: str, peer: Peer) -> bool:
    if "ipBlock" in rule:
        return bool(peer.address) and contains(rule["ipBlock"], peer.address)
    if not peer.namespace:
        return False
    if "namespaceSelector" not in rule and peer.namespace != namespace:
        return False
    return matches(rule.get("namespaceSelector", {}), {"kubernetes.io/metadata.name": peer.namespace}) and matches(
        rule.get("podSelector", {}), peer.labels
    )


def _is_port(rule: Json, protocol: str, port: int) -> bool:
    if "ports" not in rule:
        return True
    return any(
        each.get("protocol", "TCP") == protocol and each.get("port", port) <= port <= each.get("endPort", each["port"])
        for each in rule["ports"]
    )


def allows(policies: Iterable[Json], direction: str, pod: Peer, peer: Peer, port: int, protocol: str = "TCP") -> bool:
    """Return True if a connection between ``pod`` and ``peer`` is allowed. ``direction``: ingress or egress of the pod.

    ``port`` is that of the side that is connected to.
    """
    side = {"ingress": "from", "egress": "to"}[direction]
    isolated = False
    for policy in policies:
        namespace, spec = policy["metadata"]["namespace"], policy["spec"]
        kinds = {kind.lower() for kind in spec["policyTypes"]}
        if namespace != pod.namespace or direction not in kinds or not matches(spec["podSelector"], pod.labels):
            continue
        isolated = True
        for rule in spec.get(direction, ()):
            peers = rule.get(side)
            reached = peers is None or any(_is_peer(each, namespace, peer) for each in peers)
            if reached and _is_port(rule, protocol, port):
                return True
    return not isolated
