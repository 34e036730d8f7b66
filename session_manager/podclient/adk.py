"""The client of pods that are ADK servers: ``POST /run_sse``, whose events are the turn's.

A pod is met once, by ``GET /list-apps``: under which name it serves its agent, and whether it keeps its sessions here.
One that does is told the message alone.  Any other has a copy of its own: the session is made there when it is missing,
from our state and history, and each turn brings it what has changed in the state since.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any, NamedTuple
from urllib.parse import quote

from pydantic_core import from_json, to_json

from session_manager.domain.adk.model import AdkKey, AdkSession
from session_manager.domain.errors import PodRejected
from session_manager.domain.session_class import SessionClass
from session_manager.podclient.adk_stream import follow
from session_manager.podclient.connection import PodConnection
from session_manager.podclient.http import host_of
from session_manager.podclient.pool import PodPool
from session_manager.podclient.protocol import AdkExchange, DeltaListener, TurnReply, TurnRequest
from session_manager.podclient.refusals import check_answer
from session_manager.podclient.seeding import seed
from session_manager.runtime.protocol import Address

Json = dict[str, Any]
Sessions = Callable[[AdkKey, int | None], Awaitable[AdkSession]]

MET_AT_MOST = 10_000  # pods remembered; one that was forgotten is asked again
KEEPS = b"stored"  # X-Session-Events of a pod that adds its events to its session here by itself

_HEAD = (
    "%s HTTP/1.1\r\nHost: %s\r\nUser-Agent: session-manager\r\nContent-Type: application/json\r\n"
    "X-Session-Id: %s\r\nX-Message-Id: %s\r\nX-Attempt: %d\r\nX-Session-Token: %s\r\nContent-Length: %d\r\n\r\n"
)


class _Pod(NamedTuple):
    """``app``: what the pod calls the session's app. ``keeps``: its sessions are ours."""

    app: str
    keeps: bool


class AdkPodClient:
    """A PodClient. ``sessions`` gives what is stored of a session: all, or only its last N events."""

    def __init__(self, sessions: Sessions) -> None:
        self._sessions = sessions
        self._pool = PodPool()
        self._met: dict[str, _Pod] = {}

    async def start(self) -> None:
        """Nothing to open before the first message."""

    async def close(self) -> None:
        self._pool.close()

    async def chat(
        self, address: Address, session_class: SessionClass, request: TurnRequest, on_delta: DeltaListener
    ) -> TurnReply:
        turn = request.adk
        if turn is None:
            raise ValueError("a turn of a pod that speaks ADK says which session it is")
        pod = self._met.get(address.uid) or await self._meet(address, request, turn.key)
        turn.kept = pod.keeps
        state = {} if pod.keeps else (await self._sessions(turn.key, 0)).state
        there = _key_there(turn.key, pod)
        body = _run_body(there, turn, request.text, state)
        reply = await self._run(address, request, body, on_delta)
        if reply is None and not pod.keeps:
            await self._make_session(address, request, turn.key, there)
            reply = await self._run(address, request, body, on_delta)
        if reply is None:
            raise PodRejected("the pod does not know the session")
        return reply

    def drop(self, uid: str) -> None:
        self._met.pop(uid, None)
        self._pool.drop(uid)

    # -- what is asked of a pod ----------------------------------------------------------------------------------------

    async def _meet(self, address: Address, request: TurnRequest, key: AdkKey) -> _Pod:
        async with self._exchange(address, request, "GET /list-apps", b"") as connection:
            await connection.answer()
            apps: list[str] = []
            if connection.status != 404:
                check_answer(connection.status, connection.headers, bytes(connection.body))
                apps = _apps_of(bytes(connection.body))
            keeps = connection.headers.get(b"x-session-events") == KEEPS
        if len(self._met) >= MET_AT_MOST:
            self._met.clear()
        pod = self._met[address.uid] = _Pod(key.app if keeps else _app_among(apps, key.app), keeps)
        return pod

    async def _make_session(self, address: Address, request: TurnRequest, key: AdkKey, there: AdkKey) -> None:
        session = await self._sessions(key, None)
        target = f"POST /apps/{quote(there.app, safe='')}/users/{quote(there.user_id, safe='')}/sessions"
        async with self._exchange(address, request, target, seed(session), skim=True) as connection:
            await connection.answer()
            if connection.status != 409:  # it is there
                check_answer(connection.status, connection.headers, bytes(connection.body))

    async def _run(
        self, address: Address, request: TurnRequest, body: bytes, on_delta: DeltaListener
    ) -> TurnReply | None:
        """None when the pod does not know the session."""
        turn = request.adk
        async with self._exchange(address, request, "POST /run_sse", body) as connection:
            await connection.answer()
            if connection.streams and turn is not None:
                return TurnReply((await follow(connection, turn, on_delta)).response)
            answer = bytes(connection.body)
            if connection.status == 404 and b"Session not found" in answer:
                return None
            check_answer(connection.status, connection.headers, answer)
            raise PodRejected("the pod's answer to /run_sse is no stream of events")

    @asynccontextmanager
    async def _exchange(
        self, address: Address, request: TurnRequest, target: str, body: bytes, *, skim: bool = False
    ) -> AsyncIterator[PodConnection]:
        connection = await self._pool.take(address)
        try:
            connection.send(_head(address, request, target, len(body)) + body, skim=skim)
            yield connection
        finally:
            self._pool.give_back(address, connection)


def _head(address: Address, request: TurnRequest, target: str, length: int) -> bytes:
    if not (request.session + request.message_id + request.token).isprintable():
        raise ValueError("an id that cannot stand in a header")
    which = request.session, request.message_id, request.attempt, request.token
    return (_HEAD % (target, host_of(address), *which, length)).encode("ascii")


def _key_there(key: AdkKey, pod: _Pod) -> AdkKey:
    """What the pod calls the session. A copy is made by a path, in which a slash would begin another segment."""
    user_id = key.user_id if pod.keeps else key.user_id.replace("/", "%2F")
    return AdkKey(pod.app, user_id, key.id)


def _run_body(there: AdkKey, turn: AdkExchange, text: str, state: Json) -> bytes:
    """``state`` is what the pod's copy has to know before."""
    payload: Json
    if turn.payload is None:
        payload = {"newMessage": {"role": "user", "parts": [{"text": text}]}, "streaming": True}
    else:
        payload = from_json(turn.payload)
    delta = {**state, **(payload.get("stateDelta") or {})}
    which = {"appName": there.app, "userId": there.user_id, "sessionId": there.id}
    return to_json({**payload, **which, **({"stateDelta": delta} if delta else {})})


def _apps_of(body: bytes) -> list[str]:
    try:
        apps = from_json(body)
    except ValueError:
        apps = None
    if not isinstance(apps, list) or not all(isinstance(app, str) for app in apps):
        raise PodRejected("the pod's answer to /list-apps is no list of names")
    return apps


def _app_among(apps: list[str], wanted: str) -> str:
    """The app of that name; where the pod serves only one, or does not say, there is no choice."""
    if wanted in apps or not apps:
        return wanted
    if len(apps) == 1:
        return apps[0]
    raise PodRejected(f"the pod serves {', '.join(sorted(apps))[:200]}, and none of them is called {wanted}")
