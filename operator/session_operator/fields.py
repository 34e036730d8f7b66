"""The fields of a session's Deployment: which differ from what is desired, and which field manager owns them.

``replicas`` and the wake annotation belong to the field manager ``session-scaler``, all other fields to
``session-operator``.  The scaler creates the Deployment whole and so owns all of it at first.  Before the operator
first applies to it, everything except those two fields is handed over.  From then on an apply removes what it leaves
out, as if the operator had applied from the beginning.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

from session_manager.domain.values import Json
from session_manager.runtime.kubernetes import names

KEPT = (("f:spec", "f:replicas"), ("f:metadata", "f:annotations", f"f:{names.WAKE_ANNOTATION}"))


def differs(desired: object, live: object) -> bool:
    """Return True if a desired field is missing or different in ``live``.

    Fields that the API server added are ignored.
    """
    if isinstance(desired, dict):
        return not isinstance(live, dict) or any(differs(value, live.get(key)) for key, value in desired.items())
    if isinstance(desired, list):
        if not isinstance(live, list) or len(live) != len(desired):
            return True
        return any(differs(one, other) for one, other in zip(desired, live, strict=True))
    # The API server leaves out what is false, and writes quantities in its own way.
    return str(desired) != str(live) and not (desired is False and live is None)


def is_handed_over(entries: Sequence[Json]) -> bool:
    """Return True if the operator owns its fields. ``entries``: the managedFields of a Deployment."""
    return any(entry["manager"] == names.OPERATOR and entry["operation"] == "Apply" for entry in entries)


def hand_over(entries: Sequence[Json]) -> list[Json]:
    """Return the managedFields after the hand-over."""
    return [part for entry in entries for part in (_split(entry) if _is_creation(entry) else [entry])]


def hand_over_patch(deployment: Json) -> list[Json]:
    """Return a patch that hands the fields over. It fails as a whole if the Deployment has changed meanwhile."""
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
    """Move the value at ``path`` from ``source`` to ``target``, if there is one."""
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
