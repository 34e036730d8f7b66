"""Conditions of a status, in the form that kubectl wait and other programs understand. No I/O."""

from __future__ import annotations

from session_manager.domain.values import Json

ReasonAndMessage = tuple[str, str]


def condition(kind: str, status: str, because: ReasonAndMessage, generation: int, previous: Json, now: str) -> Json:
    """Return a condition. If ``previous``, the status so far, has it with the same status, its time stays.

    ``status``: True, False or Unknown.
    """
    reason, message = because
    since = now
    for before in previous.get("conditions", ()):
        if before.get("type") == kind and before.get("status") == status:
            since = before["lastTransitionTime"]
    return {
        "type": kind,
        "status": status,
        "reason": reason,
        "message": message,
        "observedGeneration": generation,
        "lastTransitionTime": since,
    }


def of_kind(status: Json, kind: str) -> Json:
    """Return the condition of this type, or an empty one."""
    return next((each for each in status.get("conditions", ()) if each.get("type") == kind), {})
