"""Pods that are ADK servers: ``POST /run_sse``, whose events become the turn's.

The first request to a pod is ``GET /list-apps``: it says under which name the pod serves its agent, and whether it
keeps its sessions here.  A pod that does gets the message alone.  Any other has a copy of its own: if the session is
missing there it is created from our state and history, and each turn brings along how the state has changed since.

``POST …/sessions`` rejects events with actions, long-running tools, or calls by which ADK itself asks a person.  The
state holds what the actions did, rewound invocations are left out, and such calls have ended: to continue one, the pod
has to keep its sessions here.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Awaitable, Callable
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import NamedTuple
from urllib.parse import quote
from uuid import uuid4

from pydantic_core import ValidationError, from_json, to_json

from session_manager.aio.beside import by_size
from session_manager.domain.adk.events import EVENT, stored_event
from session_manager.domain.adk.model import AdkEvent, AdkKey, AdkSession
from session_manager.domain.adk.pod_events import USER, TurnRights, pod_event, speaks_for_user
from session_manager.domain.errors import Forbidden, PodRejected
from session_manager.domain.values import Json
from session_manager.podclient.connection import MAX_REPLY
from session_manager.podclient.protocol import AdkExchange, DeltaListener, OpenExchange, TurnRequest
from session_manager.podclient.replies import check_answer, excerpt, json_text
from session_manager.podclient.streams import MAX_EVENT, Deltas, events_of

StoredSessions = Callable[[AdkKey, int | None], Awaitable[AdkSession]]

MAX_KNOWN = 10_000  # pods remembered; one that was forgotten is asked again
KEEPS = b"stored"  # X-Session-Events of a pod that adds its events to its session here by itself
MAX_HISTORY = 64 * 1024 * 1024  # characters; the pod gets the end of a longer history
MAX_APPS = 64 * 1024  # bytes of the answer to /list-apps
MOST_EVENTS = 1_000  # complete ones of a turn: all of them are stored in one commit

LONGEST_NAME = 240  # bytes of a file's name, with room for an ending
_ESCAPES = {ord(character): quote(character, safe="") for character in "%/\\:"}

BY_USER = "an event of the pod is by the user; an agent must use its own name as author"

_ASKED_BY_ADK = frozenset({"adk_request_credential", "adk_request_confirmation", "adk_request_input"})
_REJECTED = frozenset({"actions", "long_running_tool_ids"})


class _Pod(NamedTuple):
    """``app``: the pod's own name for the session's app. ``keeps``: its sessions are ours."""

    app: str
    keeps: bool


@dataclass(slots=True, eq=False)
class AdkPods:
    """``sessions`` reads what is stored of a session: all of it, or only its last N events."""

    sessions: StoredSessions
    _known: dict[str, _Pod] = field(init=False, default_factory=dict)

    async def chat(self, uid: str, exchange: OpenExchange, request: TurnRequest, on_delta: DeltaListener) -> str:
        """See ``PodClient.chat``. ``uid``: the pod's. ``exchange`` sends it a request of this turn."""
        turn = request.adk
        if turn is None:
            raise ValueError("a request to a pod that speaks ADK needs an AdkExchange")
        pod = self._known.get(uid) or await self._get_to_know(uid, exchange, turn.key)
        turn.kept = pod.keeps
        stored = None if pod.keeps else await self.sessions(turn.key, 0)
        there = _key_there(turn.key, pod)
        state, size = (stored.state, stored.size) if stored is not None else ({}, 0)
        body = await by_size(size + len(turn.payload or ""), _run_body, there, turn, request.text, state)
        reply = await _run(exchange, body, turn, on_delta)
        if reply is None and not pod.keeps:
            await self._create_session(exchange, turn.key, there)
            reply = await _run(exchange, body, turn, on_delta)
        if reply is None:
            raise PodRejected("the pod does not know the session")
        return reply

    def forget(self, uid: str) -> None:
        self._known.pop(uid, None)

    # -- requests to a pod ---------------------------------------------------------------------------------------------

    async def _get_to_know(self, uid: str, exchange: OpenExchange, key: AdkKey) -> _Pod:
        async with exchange("GET /list-apps", b"") as connection:
            await connection.answer()
            apps: list[str] = []
            if connection.status != 404:
                check_answer(connection.status, connection.headers, bytes(connection.body))
                apps = _apps_of(bytes(connection.body))
            keeps = connection.headers.get(b"x-session-events") == KEEPS
        if len(self._known) >= MAX_KNOWN:
            self._known.clear()
        pod = self._known[uid] = _Pod(key.app if keeps else _app_among(apps, key.app), keeps)
        return pod

    async def _create_session(self, exchange: OpenExchange, key: AdkKey, there: AdkKey) -> None:
        session = await self.sessions(key, None)
        target = f"POST /apps/{quote(there.app, safe='')}/users/{quote(there.user_id, safe='')}/sessions"
        seed = await by_size(session.size, _seed, session, there)
        async with exchange(target, seed, skim=True) as connection:
            await connection.answer()
            if connection.status != 409:  # 409: it exists
                check_answer(connection.status, connection.headers, bytes(connection.body))


async def _run(exchange: OpenExchange, body: bytes, turn: AdkExchange, on_delta: DeltaListener) -> str | None:
    """Return None if the pod does not know the session."""
    async with exchange("POST /run_sse", body) as connection:
        await connection.answer()
        if connection.streams:
            turn.events.clear()
            collected = Collected(turn, Deltas(on_delta))
            async with aclosing(events_of(connection, MAX_REPLY)) as events:
                async for _, data in events:
                    await collected.take(data)
            return collected.response
        answer = bytes(connection.body)
        if connection.status == 404 and b"Session not found" in answer:
            return None
        check_answer(connection.status, connection.headers, answer)
        raise PodRejected("the pod's answer to /run_sse is not a stream of events")


def _key_there(key: AdkKey, pod: _Pod) -> AdkKey:
    """Return the pod's own key of the session. Of a copy, ADK takes the ids as segments of paths and as file names."""
    if pod.keeps:
        return AdkKey(pod.app, key.user_id, key.id)
    return AdkKey(pod.app, _as_segment(key.user_id), _as_segment(key.id))


def _as_segment(text: str) -> str:
    """Return the id in a form of its own that ADK takes everywhere: no separators, no drive, no reserved word."""
    there = "%75ser" if text == "user" else text.translate(_ESCAPES)
    return there if len(there.encode()) <= LONGEST_NAME else hashlib.sha256(text.encode()).hexdigest()


def _run_body(there: AdkKey, turn: AdkExchange, text: str, state: Json) -> bytes:
    """``state`` is what the pod's copy has to know first."""
    payload: Json
    if turn.payload is None:
        payload = {"newMessage": {"role": "user", "parts": [{"text": text}]}, "streaming": True}
    else:
        payload = from_json(turn.payload)
    delta = {**state, **(payload.get("stateDelta") or {})}
    ids = {"appName": there.app, "userId": there.user_id, "sessionId": there.id}
    return to_json({**payload, **ids, **({"stateDelta": delta} if delta else {})})


def _apps_of(body: bytes) -> list[str]:
    try:
        apps = from_json(body) if len(body) <= MAX_APPS else None
    except ValueError:
        apps = None
    if not isinstance(apps, list) or not all(isinstance(app, str) for app in apps):
        raise PodRejected(f"the pod's answer to /list-apps is not a list of names of at most {MAX_APPS} bytes")
    return apps


def _app_among(apps: list[str], wanted: str) -> str:
    """Return the app of that name; if the pod serves only one app, or does not say, any name will do."""
    if wanted in apps or not apps:
        return wanted
    if len(apps) == 1:
        return apps[0]
    raise PodRejected(f"the pod serves {', '.join(sorted(apps))[:200]}; none of them is called {wanted}")


# -- the session that a pod gets --------------------------------------------------------------------------------------


def _seed(session: AdkSession, there: AdkKey) -> bytes:
    """Return the body of the request that creates the session, made event by event: no step takes long."""
    events = [json.loads(data) for data in _last(session.events)]
    accepted = (event for event in map(_acceptable, _after_rewinds(events)) if event is not None)
    listed = b",".join(json.dumps(event).encode() for event in accepted)
    identity, state = json.dumps(there.id).encode(), json.dumps(session.state).encode()
    return b'{"sessionId": %b, "state": %b, "events": [%b]}' % (identity, state, listed)


def _last(events: list[str]) -> list[str]:
    size = 0
    for at in range(len(events) - 1, -1, -1):
        size += len(events[at])
        if size > MAX_HISTORY:
            return events[at + 1 :]
    return events


def _after_rewinds(events: list[Json]) -> list[Json]:
    """Return the events that a reader of the session sees: a rewind undoes its invocation and all later ones."""
    kept: list[Json] = []
    for event in events:
        rewound = (event.get("actions") or {}).get("rewind_before_invocation_id")
        if not rewound:
            kept.append(event)
            continue
        first = next((at for at, each in enumerate(kept) if each.get("invocation_id") == rewound), len(kept))
        del kept[first:]
    return kept


def _acceptable(event: Json) -> Json | None:
    """Return the part of the event that ADK accepts, or None if nothing is left of it."""
    content = event.get("content") or {}
    parts = [part for part in content.get("parts") or () if not _asked(part)]
    if not parts:
        return None
    rest = {name: value for name, value in event.items() if name not in _REJECTED}
    return {**rest, "content": {**content, "parts": parts}}


def _asked(part: Json) -> bool:
    calls = (part.get(name) or {} for name in ("function_call", "function_response"))
    return any(call.get("name") in _ASKED_BY_ADK for call in calls)


# -- the events that a pod sends --------------------------------------------------------------------------------------


@dataclass(slots=True, eq=False)
class Collected:
    """The part of a stream that has arrived so far. ``turn.events`` has its complete events as they are stored."""

    turn: AdkExchange
    on_delta: DeltaListener
    _events: list[str] = field(init=False, default_factory=list)
    _values: list[Json] = field(init=False, default_factory=list)
    _size: int = field(init=False, default=0)
    _count: int = field(init=False, default=0)

    async def take(self, data: str) -> None:
        text, event = await by_size(len(data), _read, data)
        if "error" in event and "id" not in event:
            raise PodRejected(f"the agent failed: {excerpt(text.encode())}")
        if event.get("partial"):
            await self._pass_on(text, event)
        else:
            await self._keep(text, event)

    async def _pass_on(self, text: str, event: Json) -> None:
        if len(text) > MAX_EVENT:
            raise PodRejected(f"an event of the pod's stream is longer than {MAX_EVENT} bytes")
        if event.get("author") == USER:
            raise PodRejected(BY_USER)
        await self.on_delta(f'{{"text":{_dump(words_of(event))},"event":{text}}}')

    async def _keep(self, text: str, event: Json) -> None:
        self._size += len(text)
        self._count += 1
        if self._size > MAX_REPLY:
            raise PodRejected(f"the pod's events are longer than {MAX_REPLY} bytes")
        if self._count > MOST_EVENTS:
            raise PodRejected(f"the pod sent more than {MOST_EVENTS} events that are not partial")
        passed_on = text
        before = self._values[-1] if self._values else {}
        again = bool(event.get("id")) and event["id"] == before.get("id")
        if again:
            # ADK sends an event that made artifacts twice: first its content, then its actions.
            event = {**before, "actions": event.get("actions") or {}}
            text = await by_size(len(self._events[-1]) + len(text), _dump, event)
        stored = await by_size(len(text), _stored, event, self.turn.rights)
        if again:
            for kept in (self._values, self._events, self.turn.events):
                kept.pop()
        self.turn.events.append(stored)
        self._values.append(event)
        self._events.append(text)
        if len(passed_on) <= MAX_EVENT:
            await self.on_delta(f'{{"event":{passed_on}}}')

    @property
    def response(self) -> str:
        """Return ``{"reply": "<the last text>", "events": […]}``, with the events as the pod sent them."""
        texts = (words_of(event) for event in reversed(self._values))
        reply = next(filter(None, texts), "")
        return f'{{"reply":{_dump(reply)},"events":[{",".join(self._events)}]}}'


def words_of(event: Json) -> str:
    """Return the text of the event, without the model's thoughts."""
    content = event.get("content")
    parts = content.get("parts") if isinstance(content, dict) else None
    if not isinstance(parts, list):
        return ""
    said = (part for part in parts if isinstance(part, dict) and not part.get("thought"))
    return "".join(part["text"] for part in said if isinstance(part.get("text"), str))


def _read(data: str) -> tuple[str, Json]:
    text, _ = json_text(data.encode())
    if text is None:
        raise PodRejected("an event of the pod's stream is not a JSON object")
    try:
        [[[[event]]]] = from_json(f"[[[[{text}]]]]")  # stored, it is nested in others, and has to be readable there
    except ValueError:
        raise PodRejected("an event of the pod's stream is nested too deeply, or has too long a number") from None
    if not isinstance(event, dict):
        raise PodRejected("an event of the pod's stream is not a JSON object")
    return text, event


def _stored(event: Json, rights: TurnRights) -> AdkEvent:
    try:
        checked, now = EVENT.validate(event), time.time()
        if speaks_for_user(checked):
            raise PodRejected(BY_USER)
        return stored_event(pod_event(checked, rights, now), now, uuid4)
    except Forbidden as error:
        raise PodRejected(f"an event of the pod is not allowed: {error.detail}") from None
    except ValidationError as error:
        first = error.errors(include_input=False, include_url=False, include_context=False)[0]
        where = ".".join(map(str, first["loc"]))
        raise PodRejected(f"an event of the pod is not an ADK event: {where}: {first['msg']}") from None


def _dump(value: object) -> str:
    return to_json(value).decode()
