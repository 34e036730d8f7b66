"""A front door's parts on a real store and a real Redis, with a pod that the test controls."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path

import pytest

from session_manager.activity.link import Link
from session_manager.activity.redis import RedisActivity
from session_manager.domain.errors import InvalidInput
from session_manager.domain.mode import AllAuto
from session_manager.domain.session_class import SessionClass
from session_manager.domain.times import micros
from session_manager.people.tokens import SECRET_NAME, Tokens
from session_manager.podclient.protocol import DeltaListener, TurnRequest
from session_manager.runtime.protocol import PodAddress
from session_manager.store.protocol import NewSession
from session_manager.store.sqlite.adapter import SqliteStore
from session_manager.turns.adk import AdkHistory
from session_manager.turns.kit import Kit, TurnTools

CLASS = SessionClass("default")
POD = PodAddress("127.0.0.1", 4000, "pod-a")
SESSION = "5b0cbe6c-7a58-4f0c-9a3c-0e8f6d1b2a11"
MESSAGE = "0f5a3c1e-2f4d-4a57-8a55-9a3f0b8c7d22"


class Classes:
    def get(self, name: str) -> SessionClass:
        if name != CLASS.name:
            raise InvalidInput("there is no such class")
        return CLASS


class Pods:
    """Answers after ``may_answer`` is set. ``broken``: raises an error that a pod client should never raise."""

    def __init__(self) -> None:
        self.broken = False
        self.asked = asyncio.Event()
        self.may_answer = asyncio.Event()

    async def close(self) -> None: ...

    async def chat(
        self, address: PodAddress, session_class: SessionClass, request: TurnRequest, on_delta: DeltaListener
    ) -> str:
        self.asked.set()
        if self.broken:
            raise ZeroDivisionError
        await self.may_answer.wait()
        return "{}"

    def drop(self, uid: str) -> None: ...


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[SqliteStore]:
    store = SqliteStore(tmp_path / "sessions.db")
    await store.start()
    await store.create_session(NewSession(SESSION, "ada", CLASS.name, micros(CLASS.ttl)))
    yield store
    await store.close()


@pytest.fixture
async def activity(redis_url: str, store: SqliteStore) -> AsyncIterator[RedisActivity]:
    link = Link.from_url(redis_url)
    activity = RedisActivity(link, lease=15.0, heartbeat=5.0, has_unfinished=store.has_unfinished)
    await activity.start()
    yield activity
    await activity.close()


@pytest.fixture
def pods() -> Pods:
    return Pods()


@pytest.fixture
def kit(store: SqliteStore, activity: RedisActivity) -> Kit:
    return Kit(store, activity, Classes(), AllAuto())


@pytest.fixture
async def tools(kit: Kit, pods: Pods) -> AsyncIterator[TurnTools]:
    tools = TurnTools(pods, Tokens(partial(kit.store.secret, SECRET_NAME)), AdkHistory(kit.store))
    yield tools
    await tools.late.close()


async def wake(activity: RedisActivity, session: str = SESSION) -> None:
    """The session's pod answers."""
    await activity.wake(session, CLASS)
    await activity.beat()
    assert await activity.publish(session, POD, CLASS, old=False)
