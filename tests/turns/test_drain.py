"""An announcement of the scaler is committed, whatever else goes on at that moment."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from itertools import count
from uuid import uuid4

import pytest

from session_manager.activity.redis import RedisActivity
from session_manager.domain.access import EVERYTHING
from session_manager.domain.errors import StoreUnavailable
from session_manager.domain.message import NewMessage
from session_manager.domain.times import Micros, micros
from session_manager.runtime.protocol import PodAddress
from session_manager.store.protocol import NewSession
from session_manager.store.sqlite.adapter import SqliteStore
from session_manager.turns.drain import Drains
from session_manager.turns.kit import Kit, TurnTools
from tests.servers.redis import RedisServer
from tests.turns.conftest import CLASS, MESSAGE, SESSION, Pods, wake
from tests.waiting import until


@pytest.fixture
async def drains(kit: Kit, tools: TurnTools, pods: Pods) -> AsyncIterator[Drains]:
    drains = Drains(kit, tools, max_drains=4, look_every=0.05)
    yield drains
    pods.may_answer.set()
    await drains.close(5.0)


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
    """It is announced again after one lease, but not after it was attended."""
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


async def test_a_message_whose_exchange_crashes_three_times_fails(
    store: SqliteStore, activity: RedisActivity, pods: Pods, drains: Drains, caplog: pytest.LogCaptureFixture
):
    pods.broken = True
    accepted = await store.accept(NewMessage(MESSAGE, SESSION, "hello", "local"), EVERYTHING)
    await activity.take(SESSION, MESSAGE, accepted.message.seq, accepted.lowest_unfinished, CLASS)
    started = count()

    async def ended() -> bool:
        desire = await activity.desire(SESSION)
        if not desire.published:  # do what the scaler would: start another pod instead of the spoiled one
            await activity.beat()
            await activity.publish(SESSION, PodAddress("127.0.0.1", 4000, f"pod-{next(started)}"), CLASS, old=False)
        return (await store.get_message(SESSION, MESSAGE, EVERYTHING)).finished_at is not None

    async with running(drains):
        await until(ended)
    message = await store.get_message(SESSION, MESSAGE, EVERYTHING)
    assert message.deaths == 3
    assert message.error is not None
    assert [record.message for record in caplog.records].count("a turn's exchange broke down") == 3


async def test_a_drain_that_crashes_is_logged(
    store: SqliteStore, drains: Drains, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    async def break_down(uuid: str) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(store, "get_session", break_down)
    drains.start(SESSION)
    await until(lambda: not drains.draining(SESSION))
    assert [record.message for record in caplog.records] == ["a drain ended unexpectedly"]


async def test_slow_turns_of_one_user_leave_slots_for_others(
    store: SqliteStore, activity: RedisActivity, pods: Pods, drains: Drains
):
    """Of four slots one user gets one, however many sessions of that user wait."""
    mine = [SESSION, *[str(uuid4()) for _ in range(5)]]
    for uuid in mine[1:]:
        await store.create_session(NewSession(uuid, "ada", CLASS.name, micros(CLASS.ttl)))
    others = str(uuid4())
    await store.create_session(NewSession(others, "eve", CLASS.name, micros(CLASS.ttl)))
    for uuid in (*mine, others):
        accepted = await store.accept(NewMessage(str(uuid4()), uuid, "hello", "local"), EVERYTHING)
        await activity.take(uuid, accepted.message.id, 1, 1, CLASS)
        await wake(activity, uuid)
        drains.start(uuid)

    async def running() -> list[str]:
        return [uuid for uuid in (*mine, others) if (await activity.hot(uuid)).running]

    async def both_run() -> bool:
        return {each in mine for each in await running()} == {True, False}

    await until(both_run)
    assert len(await running()) == 2
    pods.may_answer.set()

    async def all_done() -> bool:
        return not await store.has_unfinished()

    await until(all_done)


async def test_sessions_that_wait_for_a_slot_do_not_hold_up_the_end(
    store: SqliteStore, activity: RedisActivity, pods: Pods, drains: Drains
):
    second = str(uuid4())
    await store.create_session(NewSession(second, "ada", CLASS.name, micros(CLASS.ttl)))
    for uuid in (SESSION, second):
        accepted = await store.accept(NewMessage(str(uuid4()), uuid, "hello", "local"), EVERYTHING)
        await activity.take(uuid, accepted.message.id, 1, 1, CLASS)
        await wake(activity, uuid)
        drains.start(uuid)
    await pods.asked.wait()
    closing = asyncio.create_task(drains.close(60.0))
    await until(lambda: drains.draining(SESSION) != drains.draining(second))
    pods.may_answer.set()
    await closing
    assert len(await store.unfinished(Micros(await store.now() + 1), 10)) == 1
