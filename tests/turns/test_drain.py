"""What the scaler announces is committed, whatever else goes on at that moment."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from itertools import count
from pathlib import Path

import pytest

from session_manager.activity.link import Link
from session_manager.activity.redis import RedisActivity
from session_manager.domain.access import EVERYTHING
from session_manager.domain.errors import InvalidInput, StoreUnavailable
from session_manager.domain.message import NewMessage
from session_manager.domain.session_class import SessionClass
from session_manager.domain.times import micros
from session_manager.podclient.protocol import DeltaListener, TurnReply, TurnRequest
from session_manager.runtime.protocol import Address
from session_manager.store.protocol import NewSession
from session_manager.store.sqlite.adapter import SqliteStore
from session_manager.turns.dispatch import Dispatcher
from session_manager.turns.drain import Drains
from tests.servers.redis import RedisServer
from tests.waiting import until

CLASS = SessionClass("default")
POD = Address("127.0.0.1", 4000, "pod-a")
SESSION = "5b0cbe6c-7a58-4f0c-9a3c-0e8f6d1b2a11"
MESSAGE = "0f5a3c1e-2f4d-4a57-8a55-9a3f0b8c7d22"


class Classes:
    def get(self, name: str) -> SessionClass:
        if name != CLASS.name:
            raise InvalidInput("there is no such class")
        return CLASS


class Pods:
    """Answers once it may; ``broken``: raises what no pod client should."""

    def __init__(self) -> None:
        self.broken = False
        self.asked = asyncio.Event()
        self.may_answer = asyncio.Event()

    async def start(self) -> None: ...
    async def close(self) -> None: ...

    async def chat(
        self, address: Address, session_class: SessionClass, request: TurnRequest, on_delta: DeltaListener
    ) -> TurnReply:
        self.asked.set()
        if self.broken:
            raise ZeroDivisionError
        await self.may_answer.wait()
        return TurnReply("{}")

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
async def drains(store: SqliteStore, activity: RedisActivity, pods: Pods) -> AsyncIterator[Drains]:
    dispatcher = Dispatcher(store, activity, pods)
    drains = Drains(store, activity, dispatcher, Classes(), max_drains=4, look_every=0.05)
    yield drains
    pods.may_answer.set()
    await drains.close(5.0)
    await dispatcher.close()


@asynccontextmanager
async def running(drains: Drains) -> AsyncIterator[None]:
    task = asyncio.create_task(drains.run())
    try:
        yield
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


async def woken(store: SqliteStore) -> bool:
    return (await store.get_session(SESSION, EVERYTHING)).woken_at is not None


async def wake(activity: RedisActivity) -> None:
    await activity.wake(SESSION, CLASS)
    await activity.beat()
    assert await activity.publish(SESSION, POD, CLASS, old=False)


async def test_a_wake_announced_while_its_session_is_drained(
    redis_server: RedisServer, store: SqliteStore, activity: RedisActivity, pods: Pods, drains: Drains
):
    accepted = await store.accept(NewMessage(MESSAGE, SESSION, "hello", "local"), EVERYTHING)
    await activity.take(SESSION, MESSAGE, accepted.message.seq, accepted.lowest_unfinished, CLASS)
    await wake(activity)
    drains.start(SESSION)
    await pods.asked.wait()
    with redis_server.client() as client:
        assert client.lrange("ready", 0, -1) == [SESSION.encode()]
        async with running(drains):
            await until(lambda: client.llen("ready") == 0)
            assert drains.draining(SESSION)
            pods.may_answer.set()
            await until(lambda: woken(store))


async def test_a_wake_announced_while_the_database_is_away(
    store: SqliteStore, activity: RedisActivity, drains: Drains, monkeypatch: pytest.MonkeyPatch
):
    record_wake, refusals = store.record_wake, iter(range(2))

    async def refuse_twice(uuid: str) -> None:
        if next(refusals, None) is not None:
            raise StoreUnavailable
        await record_wake(uuid)

    monkeypatch.setattr(store, "record_wake", refuse_twice)
    await wake(activity)
    async with running(drains):
        await until(lambda: woken(store))


async def test_a_wake_whose_taker_died(
    redis_server: RedisServer, store: SqliteStore, activity: RedisActivity, drains: Drains
):
    """It is announced again after one lease, and once attended to never more."""
    await wake(activity)
    assert await activity.next_ready() == SESSION
    assert await activity.next_ready() is None
    with redis_server.client() as client:
        client.zadd("ready:taken", {SESSION: 0})
        async with running(drains):
            await until(lambda: woken(store))
            await until(lambda: client.zcard("ready:taken") == 0)


async def test_a_deleted_session_that_was_announced(
    redis_server: RedisServer, store: SqliteStore, activity: RedisActivity, drains: Drains
):
    await wake(activity)
    await store.delete_session(SESSION, EVERYTHING)
    with redis_server.client() as client:
        async with running(drains):
            await until(lambda: client.llen("ready") == 0 and client.zcard("ready:taken") == 0)


async def test_a_message_on_which_the_exchange_breaks_down_ends(
    store: SqliteStore, activity: RedisActivity, pods: Pods, drains: Drains, caplog: pytest.LogCaptureFixture
):
    pods.broken = True
    accepted = await store.accept(NewMessage(MESSAGE, SESSION, "hello", "local"), EVERYTHING)
    await activity.take(SESSION, MESSAGE, accepted.message.seq, accepted.lowest_unfinished, CLASS)
    started = count()

    async def ended() -> bool:
        desire = await activity.desire(SESSION)
        if not desire.published:  # as the scaler would: another pod instead of the one that is not trusted any more
            await activity.beat()
            await activity.publish(SESSION, Address("127.0.0.1", 4000, f"pod-{next(started)}"), CLASS, old=False)
        return (await store.get_message(SESSION, MESSAGE, EVERYTHING)).finished_at is not None

    async with running(drains):
        await until(ended)
    message = await store.get_message(SESSION, MESSAGE, EVERYTHING)
    assert message.deaths == 3
    assert message.error is not None
    assert [record.message for record in caplog.records].count("a turn's exchange broke down") == 3


async def test_a_drain_that_breaks_down_is_told_about(
    store: SqliteStore, drains: Drains, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    async def break_down(uuid: str) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(store, "get_session", break_down)
    drains.start(SESSION)
    await until(lambda: not drains.draining(SESSION))
    assert [record.message for record in caplog.records] == ["a drain ended unexpectedly"]
