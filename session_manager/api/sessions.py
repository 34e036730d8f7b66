"""Routes of a session as a whole: create, look, list, rename, wake, sleep, delete, logs."""

from __future__ import annotations

from contextlib import suppress
from typing import Annotated, Literal
from uuid import uuid4

from fastapi import Body, Query, Response
from fastapi.responses import PlainTextResponse

from session_manager.api import answers
from session_manager.api.call import CurrentCall
from session_manager.api.chat import CROWDED
from session_manager.api.schemas import CreateRequest, RenameRequest, SessionId, UserId, WakeRequest
from session_manager.domain.errors import ActivityUnavailable, Forbidden, InvalidInput, Unavailable
from session_manager.domain.mode import Mode
from session_manager.domain.session import COLD_SQL, HOT, Hot, Session, Status, cold_status
from session_manager.domain.session_class import visible_class
from session_manager.domain.times import micros
from session_manager.domain.values import Json
from session_manager.store.protocol import NewSession, SessionQuery
from session_manager.wiring.services import Services

PageSize = Annotated[int, Query(ge=1, le=500, description="Rows of a page.")]
Cursor = Annotated[str | None, Query(description="next_cursor of the page before.")]

LISTED = frozenset(COLD_SQL) - {Status.EXPIRED}


async def create(call: CurrentCall, body: CreateRequest) -> Response:
    """Make a session. Its pod starts with the first message, or by an explicit wake."""
    if not call.caller.may_act_for(body.user_id):
        raise Forbidden("user_id is not the user that this caller acts for")
    await call.counted_for(body.user_id)
    session_class = visible_class(call.services.classes, body.class_name, call.caller.classes)
    new = NewSession(str(uuid4()), body.user_id, session_class.name, micros(session_class.ttl), body.name)
    session = await call.services.store.create_session(new)
    call.services.host.created(session)
    return answers.json(answers.created(session), 201, {"location": f"/session/{session.uuid}"})


async def look(call: CurrentCall, session_id: SessionId) -> Response:
    """The session and what its pod does. Never asks the cluster."""
    record = await call.services.store.get_session(session_id, call.access)
    return answers.json(await _whole(call.services, record))


async def list_sessions(
    call: CurrentCall,
    limit: PageSize = 50,
    cursor: Cursor = None,
    status: Status | None = None,
    user_id: str | None = None,
    app: str | None = None,
    adk_id: str | None = None,
) -> Response:
    """Sessions, newest first. Expired ones only on request."""
    after = answers.key_of(cursor, int, str) if cursor is not None else None
    awake, stale = await _awake(call.services)
    query = SessionQuery(
        access=call.access,
        user_id=user_id,
        app=app,
        adk_id=adk_id,
        cold=LISTED if status is None else frozenset({status}) & frozenset(COLD_SQL),
        hot_ids=frozenset(awake),
        hot_wanted=frozenset(each for each, is_status in awake.items() if status in (None, is_status)),
        after=after,  # type: ignore[arg-type]
        limit=limit,
    )
    page = await call.services.store.list_sessions(query)
    rows = [answers.session_row(each, awake.get(each.uuid) or cold_status(each)) for each in page.sessions]
    following = answers.cursor_of(page.next_after) if page.next_after is not None else None
    answer: Json = {"total": page.total, "sessions": rows, "next_cursor": following}
    return answers.json({**answer, "stale": True} if stale else answer)


async def usage(
    call: CurrentCall, user_id: Annotated[UserId | None, Query(description="For services: the user.")] = None
) -> Response:
    """The numbers that quotas limit, and their limits, for one user. A limit of null means any number."""
    user = user_id or call.user_caller.user
    if user is None:
        raise InvalidInput("user_id: name the user, or send X-User-Id", "user_id")
    if not call.caller.may_act_for(user):
        raise Forbidden("user_id is not the user that this caller acts for")
    used = await call.services.store.usage(user)
    awake, stale = await _awake_of(call.services, user)
    quota = call.services.settings.quotas.by_user.of(user)
    answer: Json = {
        "user_id": user,
        "sessions": _share(used.sessions, quota.sessions),
        "awake": _share(awake, quota.awake),
        "messages": _share(used.messages, quota.messages),
        "stored_bytes": _share(used.stored, quota.stored),
    }
    return answers.json({**answer, "stale": True} if stale else answer)


def _share(used: int, limit: int) -> Json:
    return {"used": used, "limit": limit or None}


async def logs(
    call: CurrentCall, session_id: SessionId, tail: Annotated[int, Query(ge=1, le=10_000)] = 200
) -> Response:
    """The last lines that the session's pods printed."""
    await call.services.store.get_session(session_id, call.access)
    return PlainTextResponse(await call.services.host.logs(session_id, tail))


async def rename(call: CurrentCall, session_id: SessionId, body: RenameRequest) -> Response:
    """Give the session another name, or none."""
    record = await call.services.store.rename_session(session_id, body.name, call.access)
    return answers.json(await _whole(call.services, record))


async def wake(
    call: CurrentCall, session_id: SessionId, body: Annotated[WakeRequest | None, Body()] = None
) -> Response:
    """Start the pod without a message, or keep it awake. Revives an expired session, retries a failed start."""
    keep_awake = body.keep_awake_seconds if body is not None else 0.0
    woken = await call.services.lifecycle.wake(session_id, call.access, keep_awake)
    if woken.awake:
        return _action(session_id, "wake", Status.AWAKE, "The pod answers.")
    message = CROWDED.format(woken.crowd).capitalize() if woken.crowd else "The pod is starting."
    return _action(session_id, "wake", Status.WAKING, message)


async def sleep(call: CurrentCall, session_id: SessionId, when: Literal["now", "idle"] = "now") -> Response:
    """Stop the pod; 409 while a turn runs or waits, unless ``when=idle``: then as soon as the session is idle."""
    services = call.services
    record, had_pod = await services.lifecycle.sleep(session_id, call.access, when_idle=when == "idle")
    status = answers.session(record, await _hot(services, session_id))["status"]
    if had_pod and status not in HOT:
        return _action(session_id, "sleep", Status.SLEEPING, "The pod goes to sleep.")
    message = "It sleeps as soon as it is idle." if had_pod else "There was no pod."
    return _action(session_id, "sleep", status, message)


async def delete(call: CurrentCall, session_id: SessionId) -> Response:
    """End the session for good: pod, messages and files. Every later call for it is 404."""
    await call.services.lifecycle.delete(session_id, call.access)
    return answers.json({"uuid": session_id, "status": "terminated", "message": "The session is deleted."})


def _action(session: str, action: str, status: Status, message: str) -> Response:
    return answers.json({"uuid": session, "action": action, "status": status, "message": message})


async def _whole(services: Services, record: Session) -> Json:
    suspended = False
    with suppress(Unavailable):
        suspended = services.host.mode(record.uuid) is Mode.SUSPENDED
    return answers.session(record, await _hot(services, record.uuid), suspended=suspended)


async def _hot(services: Services, session: str) -> Hot | None:
    try:
        return await services.activity.hot(session)
    except ActivityUnavailable:
        return None


async def _awake_of(services: Services, user: str) -> tuple[int, bool]:
    """Return the number of the user's pods that are awake or waking, and True if Redis is away."""
    try:
        awake = await services.activity.awake()
    except ActivityUnavailable:
        return 0, True
    return sum(state.user == user for state in awake.values()), False


async def _awake(services: Services) -> tuple[dict[str, Status], bool]:
    """Return the hot ids with their status, and True if Redis is away."""
    try:
        awake = await services.activity.awake()
    except ActivityUnavailable:
        return {}, True
    return {each: Status.AWAKE if state.address else Status.WAKING for each, state in awake.items()}, False
