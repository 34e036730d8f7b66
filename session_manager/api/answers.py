"""Records as JSON answers, and the cursors of lists."""

from __future__ import annotations

import base64
import binascii
from typing import Any

import orjson
from fastapi import Response

from session_manager.domain.errors import InvalidInput
from session_manager.domain.message import Message, MessageStatus
from session_manager.domain.session import HOT, Failure, Hot, Session, Status, cold_status, status_of
from session_manager.domain.times import rfc3339
from session_manager.domain.values import Json

SUSPENDED = "suspended: what waits is processed when the mode of its resource is Auto or AlwaysOn"


def json(value: Any, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    return Response(orjson.dumps(value), status, headers, media_type="application/json")


def created(session: Session) -> Json:
    return {
        "uuid": session.uuid,
        "user_id": session.user_id,
        "status": cold_status(session),
        "created_at": rfc3339(session.created_at),
        "expires_at": rfc3339(session.expires_at),
    }


def session(record: Session, hot: Hot | None, *, suspended: bool = False) -> Json:
    """Return one session in full. ``hot`` is None while Redis is away."""
    present = hot or Hot()
    status = status_of(record, present)
    answer: Json = {
        **session_row(record, status),
        "app": record.app,
        "reason": SUSPENDED if suspended and status not in HOT else _reason(record, present, status),
        "failure": failure(present.failure or record.failure) if status is Status.FAILED else None,
        "phase": present.phase or str(status),
        "replicas": int(status in HOT),
        "ready_replicas": int(status is Status.AWAKE),
        "queue_length": present.queue_length,
        "expires_at": rfc3339(record.expires_at),
    }
    if hot is None:
        answer["stale"] = True
    return answer


def failure(found: Failure | None) -> Json | None:
    """Return why a pod cannot start, what helps, and when it is tried again, or None if it can start."""
    if found is None:
        return None
    return {
        "reason": found.reason,
        "remedy": found.remedy,
        "next_try": rfc3339(found.next_try),
        "tries": found.tries,
    }


def _reason(record: Session, hot: Hot, status: Status) -> str:
    failure = hot.failure or record.failure
    if status is Status.FAILED and failure is not None:
        return f"{failure.reason}: {failure.remedy}"
    if status is Status.AWAKE:
        if hot.running:
            return "a turn runs"
        return f"awake until {rfc3339(hot.deadline)}" if hot.deadline else "the pod answers"
    return {
        Status.WAKING: "the pod is wanted and does not answer yet",
        Status.SLEEPING: "nothing to do; wakes on the next message",
        Status.CREATED: "never woken; wakes on the first message",
        Status.EXPIRED: "unused for longer than its time to live; revived by the next message",
    }.get(status, "")


def session_row(record: Session, status: Status) -> Json:
    return {
        "uuid": record.uuid,
        "user_id": record.user_id,
        "name": record.name,
        "class": record.class_name,
        "status": status,
        "created_at": rfc3339(record.created_at),
        "last_activity": rfc3339(record.last_activity),
    }


def message(record: Message, status: MessageStatus) -> Json:
    return {
        "message_id": record.id,
        "status": status,
        "message": record.text,
        "pod_response": orjson.Fragment(record.response) if record.response is not None else None,
        "error": record.error,
        "created_at": rfc3339(record.accepted_at),
        "finished_at": rfc3339(record.finished_at) if record.finished_at is not None else None,
    }


def cursor_of(key: tuple[int | float | str, ...]) -> str:
    """Return URL-safe text for the key of the last row of a page."""
    return base64.urlsafe_b64encode(orjson.dumps(key)).decode().rstrip("=")


def key_of(cursor: str, *kinds: type) -> tuple[int | float | str, ...]:
    """Return the key, whose parts are of ``kinds``. Raises InvalidInput for anything else."""
    try:
        padded = cursor + "=" * (-len(cursor) % 4)
        key = orjson.loads(base64.b64decode(padded.encode("ascii"), altchars=b"-_", validate=True))
    except (ValueError, binascii.Error):
        key = None
    fits = isinstance(key, list) and [type(part) for part in key] == [*kinds]
    if not fits or any(isinstance(part, int) and not 0 <= part < 2**63 for part in key):
        raise InvalidInput("cursor: not one that this server gave out", "cursor")
    return tuple(key)
