"""Requests and limits of a session's container: those of its class, completed by defaults.

Each of the three resources always has a limit, so that no pod can take a node from the others.  A default gives way to
what the class says: a request above the default limit raises the limit, a limit below the default request lowers that.
"""

from __future__ import annotations

import re
from decimal import Decimal

from session_manager.domain.values import Json

DEFAULT_REQUESTS: Json = {"cpu": "50m", "memory": "128Mi", "ephemeral-storage": "64Mi"}
DEFAULT_LIMITS: Json = {"cpu": "1", "memory": "512Mi", "ephemeral-storage": "1Gi"}
DISK = "ephemeral-storage"  # what a pod writes to /tmp, to HOME without a volume, and to its log

_BINARY = {f"{letter}i": Decimal(1024) ** power for power, letter in enumerate("KMGTPE", 1)}
_DECIMAL = {"n": -9, "u": -6, "m": -3, "": 0, "k": 3, "M": 6, "G": 9, "T": 12, "P": 15, "E": 18}
_FACTORS = _BINARY | {suffix: Decimal(10) ** power for suffix, power in _DECIMAL.items()}
_QUANTITY = re.compile(r"([+-]?[0-9.]+(?:[eE][+-]?[0-9]+)?)([KMGTPE]i|[numkMGTPE]?)")


def quantity(text: object) -> Decimal:
    """Return the amount of a Kubernetes quantity such as 500m or 1.5Gi. The API server has checked its form."""
    found = _QUANTITY.fullmatch(str(text))
    if found is None:
        raise ValueError(f"not a quantity: {text}")
    return Decimal(found[1]) * _FACTORS[found[2]]


def _exceeds(request: object, limit: object) -> bool:
    try:
        return quantity(request) > quantity(limit)
    except (ValueError, ArithmeticError):
        return False  # the API server will say what is wrong


def complete(given: Json | None) -> Json:
    """Return ``resources`` of a container. ``given``: those of its class."""
    given = given or {}
    requests, limits = given.get("requests", {}), given.get("limits", {})
    found: Json = {"requests": {**DEFAULT_REQUESTS, **requests}, "limits": {**DEFAULT_LIMITS, **limits}}
    for name in DEFAULT_LIMITS:
        if not _exceeds(found["requests"][name], found["limits"][name]):
            continue
        if name not in limits:
            found["limits"][name] = requests[name]
        elif name not in requests:
            found["requests"][name] = limits[name]
    return found
