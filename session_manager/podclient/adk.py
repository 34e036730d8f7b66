"""Pods that are ADK servers: ``POST /run_sse``, whose events become the turn's.

The first request to a pod is ``GET /list-apps``: it says under which name the pod serves its agent, and whether it
keeps its sessions here.  A pod that does gets the message alone.  Any other has a copy of its own: if the session is
missing there it is created from our state and history, and each turn brings along how the state has changed since.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import NamedTuple
from urllib.parse import quote

from pydantic_core import from_json, to_json

from session_manager.domain.adk.model import AdkKey, AdkSession
from session_manager.domain.errors import PodRejected
from session_manager.domain.values import Json
from session_manager.podclient.adk_stream import follow
from session_manager.podclient.protocol import AdkExchange, DeltaListener, OpenExchange, TurnReply, TurnRequest
from session_manager.podclient.replies import check_answer
from session_manager.podclient.seeding import seed

StoredSessions = Callable[[AdkKey, int | None], Awaitable[AdkSession]]

MAX_KNOWN = 10_000  # pods remembered; one that was forgotten is asked again
KEEPS = b"stored"  # X-Session-Events of a pod that adds its events to its session here by itself


class _Pod(NamedTuple):
    """``app``: the pod's own name for the session's app. ``keeps``: its sessions are ours."""

    app: str
    keeps: bool


class AdkPods:
    """``sessions`` reads what is stored of a session: all of it, or only its last N events."""

    def __init__(self, sessions: StoredSessions) -> None:
        self._sessions = sessions
        self._known: dict[str, _Pod] = {}

    async def chat(self, uid: str, exchange: OpenExchange, request: TurnRequest, on_delta: DeltaListener) -> TurnReply:
        """See ``PodClient.chat``. ``uid``: the pod's. ``exchange`` sends it a request of this turn."""
        turn = request.adk
        if turn is None:
            raise ValueError("a request to a pod that speaks ADK needs an AdkExchange")
        pod = self._known.get(uid) or await self._get_to_know(uid, exchange, turn.key)
        turn.kept = pod.keeps
        state = {} if pod.keeps else (await self._sessions(turn.key, 0)).state
        there = _key_there(turn.key, pod)
        body = _run_body(there, turn, request.text, state)
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
        session = await self._sessions(key, None)
        target = f"POST /apps/{quote(there.app, safe='')}/users/{quote(there.user_id, safe='')}/sessions"
        async with exchange(target, seed(session), skim=True) as connection:
            await connection.answer()
            if connection.status != 409:  # 409: it exists
                check_answer(connection.status, connection.headers, bytes(connection.body))


async def _run(exchange: OpenExchange, body: bytes, turn: AdkExchange, on_delta: DeltaListener) -> TurnReply | None:
    """Return None if the pod does not know the session."""
    async with exchange("POST /run_sse", body) as connection:
        await connection.answer()
        if connection.streams:
            return TurnReply((await follow(connection, turn, on_delta)).response)
        answer = bytes(connection.body)
        if connection.status == 404 and b"Session not found" in answer:
            return None
        check_answer(connection.status, connection.headers, answer)
        raise PodRejected("the pod's answer to /run_sse is not a stream of events")


def _key_there(key: AdkKey, pod: _Pod) -> AdkKey:
    """Return the pod's own key of the session. A copy is created by a path, where a slash would start a new segment."""
    user_id = key.user_id if pod.keeps else key.user_id.replace("/", "%2F")
    return AdkKey(pod.app, user_id, key.id)


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
        apps = from_json(body)
    except ValueError:
        apps = None
    if not isinstance(apps, list) or not all(isinstance(app, str) for app in apps):
        raise PodRejected("the pod's answer to /list-apps is not a list of names")
    return apps


def _app_among(apps: list[str], wanted: str) -> str:
    """Return the app of that name; if the pod serves only one app, or does not say, any name will do."""
    if wanted in apps or not apps:
        return wanted
    if len(apps) == 1:
        return apps[0]
    raise PodRejected(f"the pod serves {', '.join(sorted(apps))[:200]}; none of them is called {wanted}")
