"""Whose the fields of a Deployment are.

The scaler creates it whole, so all of it is its own.  Before the operator first applies to it, all but what belongs
to the scaler is handed over: then what an apply leaves out goes, as if the operator had applied from the beginning.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

from session_manager.runtime.kubernetes import names

Json = dict[str, Any]

KEPT = (("f:spec", "f:replicas"), ("f:metadata", "f:annotations", f"f:{names.WAKE_ANNOTATION}"))


def is_handed_over(entries: Sequence[Json]) -> bool:
    """``entries``: the managedFields of a Deployment."""
    return any(entry["manager"] == names.OPERATOR and entry["operation"] == "Apply" for entry in entries)


def hand_over(entries: Sequence[Json]) -> list[Json]:
    """The managedFields to write."""
    return [part for entry in entries for part in (_split(entry) if _is_creation(entry) else [entry])]


def hand_over_patch(deployment: Json) -> list[Json]:
    """Fails as a whole when somebody has written the Deployment meanwhile."""
    metadata = deployment["metadata"]
    return [
        {"op": "test", "path": "/metadata/resourceVersion", "value": metadata["resourceVersion"]},
        {"op": "replace", "path": "/metadata/managedFields", "value": hand_over(metadata["managedFields"])},
    ]


def _is_creation(entry: Json) -> bool:
    return entry["manager"] == names.SCALER and entry["operation"] == "Update" and not entry.get("subresource")


def _split(entry: Json) -> list[Json]:
    given, kept = copy.deepcopy(entry["fieldsV1"]), dict[str, Any]()
    for path in KEPT:
        _move(given, kept, path)
    parts = [{**entry, "manager": names.OPERATOR, "operation": "Apply", "fieldsV1": given}]
    return [*parts, {**entry, "fieldsV1": kept}] if kept else parts


def _move(source: Json, target: Json, path: Sequence[str]) -> None:
    """Where ``source`` has it."""
    first, *rest = path
    if first not in source:
        return
    if rest:
        inner: Json = {}
        _move(source[first], inner, rest)
        if inner:
            target[first] = {**target.get(first, {}), **inner}
    else:
        target[first] = source.pop(first)
