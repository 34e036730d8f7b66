"""The fields of a session's Deployment: which differ from what is desired, and which field manager owns them.

``replicas`` and the wake annotation belong to the field manager ``session-scaler``, all other fields to
``session-operator``.  The scaler creates the Deployment whole and so owns all of it at first.  Before the operator
first applies to it, everything except those two fields is handed over.  From then on an apply removes what it leaves
out, as if the operator had applied from the beginning.  What a person has written into the spec is handed over too, so
that the next apply removes it.
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


def service_differs(desired: Json, live: Json) -> bool:
    """Return True if the Service does not select exactly the session's pods, or if a desired field is different."""
    return bool(desired["spec"]["selector"] != live["spec"].get("selector")) or differs(desired, live)


def is_handed_over(entries: Sequence[Json]) -> bool:
    """Return True if the operator owns its fields. ``entries``: the managedFields of a Deployment."""
    return any(_is_ours(entry) for entry in entries)


def editors(entries: Sequence[Json]) -> list[str]:
    """Return who else has written into the spec. Replicas do not count, since KEDA writes them too."""
    return [entry["manager"] for entry in entries if _is_foreign(entry) and set(_spec_of(entry)) - {"f:replicas"}]


def hand_over(entries: Sequence[Json]) -> list[Json]:
    """Return the managedFields after the hand-over. Hand edits of the spec are handed over as well."""
    ours: Json | None = None
    found: list[Json] = []
    for entry in entries:
        given, kept = _divide(entry)
        if given:
            if ours is None:
                ours = {**entry, "manager": names.OPERATOR, "operation": "Apply", "fieldsV1": {}}
                found.append(ours)
            _merge(ours["fieldsV1"], given)
        if kept:
            found.append({**entry, "fieldsV1": kept})
        elif not given:
            found.append(entry)
    return found


def hand_over_patch(deployment: Json) -> list[Json]:
    """Return a patch that hands the fields over. It fails as a whole if the Deployment has changed meanwhile."""
    metadata = deployment["metadata"]
    return [
        {"op": "test", "path": "/metadata/resourceVersion", "value": metadata["resourceVersion"]},
        {"op": "replace", "path": "/metadata/managedFields", "value": hand_over(metadata["managedFields"])},
    ]


def _is_ours(entry: Json) -> bool:
    return bool(entry["manager"] == names.OPERATOR and entry["operation"] == "Apply")


def _is_foreign(entry: Json) -> bool:
    return entry["manager"] not in {names.OPERATOR, names.SCALER} and not entry.get("subresource")


def _spec_of(entry: Json) -> Json:
    found: Json = entry["fieldsV1"].get("f:spec", {})
    return found


def _divide(entry: Json) -> tuple[Json, Json]:
    """Return the fields that the operator gets, and those that their owner keeps."""
    fields = copy.deepcopy(entry["fieldsV1"])
    if _is_ours(entry):
        return fields, {}
    if entry.get("subresource"):
        return {}, fields
    if _is_foreign(entry):
        given = {name: fields["f:spec"].pop(name) for name in _spec_of(entry) if name != "f:replicas"}
        return ({"f:spec": given} if given else {}), {name: tree for name, tree in fields.items() if tree}
    kept = dict[str, Any]()
    for path in KEPT:
        _move(fields, kept, path)
    return fields, kept


def _merge(target: Json, more: Json) -> None:
    for name, tree in more.items():
        _merge(target.setdefault(name, {}), tree)


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
