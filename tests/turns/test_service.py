"""An answer of 503 promises that nothing was committed, and nothing is read again after a commit."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, cast

import pytest

from session_manager.activity.protocol import SessionGone
from session_manager.activity.redis import RedisActivity
from session_manager.domain.access import EVERYTHING
from session_manager.domain.errors import ActivityUnavailable, Conflict, NotFound, StoreUnavailable, Unavailable
from session_manager.domain.message import MessageStatus, NewMessage, Outcome
from session_manager.domain.mode import AllAuto
from session_manager.domain.session_class import SessionClass
from session_manager.store.protocol import Store
from session_manager.store.sqlite.adapter import SqliteStore
from session_manager.turns.drain import Drains
from session_manager.turns.feed import Feed
from session_manager.turns.kit import Kit, TurnTools
from session_manager.turns.lifecycle import Lifecycle
from session_manager.turns.service import Turns
from tests.turns.conftest import MESSAGE, SESSION, Classes, Pods, wake
from tests.waiting import until

CLASSES = Classes()
NEW = NewMessage(MESSAGE, SESSION, "hello", "local")


class LostAfter:
    """The store, which is unavailable as soon as ``write`` has committed. Records every call."""

    def __init__(self, store: SqliteStore, write: str = "") -> None:
        self._store = store
        self._write = write
        self._lost = False
        self.calls: list[str] = []

    def __getattr__(self, name: str) -> Callable[..., Awaitable[Any]]:
        method = getattr(self._store, name)

        async def call(*args: Any, **options: Any) -> Any:
            self.calls.append(name)
            if self._lost:
                raise StoreUnavailable
            result = await method(*args, **options)
            self._lost = name == self._write
            return result

        return call


class LostClasses:
    """Classes of a cluster that has not listed them yet."""

    def get(self, name: str) -> SessionClass:
        raise Unavailable("the classes are not known yet")


class Nothing:
    def expired(self, session: str) -> None: ...

    async def gone(self, session: str) -> bool:
        return True


Open = Callable[..., Turns]


@pytest.fixture
async def turns(activity: RedisActivity, tools: TurnTools, pods: Pods) -> AsyncIterator[Open]:
    """Open the service over this store and these classes."""
    opened: list[Turns] = []

    def open_(store: Any, classes: Any = CLASSES) -> Turns:
        kit = Kit(cast(Store, store), activity, classes, AllAuto())
        opened.append(Turns(kit, tools, Drains(kit, tools, 4, 1.0), Feed(kit, 1.0)))
        return opened[-1]

    yield open_
    pods.may_answer.set()
    for each in opened:
        each.drains.stop()
        await each.close(1.0)


async def test_cancel_reads_nothing_after_its_commit(store: SqliteStore, turns: Open) -> None:
    await store.accept(NEW, EVERYTHING)
    lost = LostAfter(store, "cancel")
    message = await turns(lost).cancel(SESSION, MESSAGE, EVERYTHING)
    assert lost.calls == ["cancel"]
    assert message == await store.get_message(SESSION, MESSAGE, EVERYTHING)
    assert (message.status, message.error) == (MessageStatus.FAILED, "cancelled")


async def test_cancel_without_redis(
    store: SqliteStore, activity: RedisActivity, turns: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def away(*args: Any) -> bool:
        raise ActivityUnavailable

    monkeypatch.setattr(activity, "remove", away)
    await store.accept(NEW, EVERYTHING)
    assert (await turns(store).cancel(SESSION, MESSAGE, EVERYTHING)).status is MessageStatus.FAILED


async def test_cancel_of_an_unavailable_store_commits_nothing(store: SqliteStore, turns: Open) -> None:
    await store.accept(NEW, EVERYTHING)
    lost = LostAfter(store, "ping")
    await lost.ping()
    with pytest.raises(StoreUnavailable):
        await turns(lost).cancel(SESSION, MESSAGE, EVERYTHING)
    assert (await store.get_message(SESSION, MESSAGE, EVERYTHING)).finished_at is None


async def test_cancel_of_what_has_ended_or_does_not_exist(store: SqliteStore, turns: Open) -> None:
    with pytest.raises(NotFound):
        await turns(store).cancel(SESSION, MESSAGE, EVERYTHING)
    await store.accept(NEW, EVERYTHING)
    await store.record(MESSAGE, None, Outcome.processed("{}"))
    with pytest.raises(Conflict):
        await turns(store).cancel(SESSION, MESSAGE, EVERYTHING)


@pytest.mark.parametrize("awake", [True, False])
async def test_an_accepted_message_is_never_reported_as_unavailable(
    store: SqliteStore, activity: RedisActivity, turns: Open, awake: bool
) -> None:
    if awake:
        await wake(activity)
    service = turns(LostAfter(store, "accept"))
    ticket = await service.submit(NEW, EVERYTHING)
    assert (ticket.turn is not None) is awake
    assert await service.outcome(ticket, 0.01, None) is None
    assert (await service.progress(ticket.message)).status in {MessageStatus.QUEUED, MessageStatus.RUNNING}


async def test_an_accepted_message_whose_class_is_unavailable(store: SqliteStore, turns: Open) -> None:
    ticket = await turns(store, LostClasses()).submit(NEW, EVERYTHING)
    assert ticket.turn is None
    assert (await store.get_message(SESSION, MESSAGE, EVERYTHING)).finished_at is None


async def test_a_deletion_whose_teardown_is_put_off(store: SqliteStore, activity: RedisActivity) -> None:
    lost = LostAfter(store, "delete_session")
    lifecycle = Lifecycle(Kit(cast(Store, lost), activity, Classes(), AllAuto()), Nothing())
    await lifecycle.delete(SESSION, EVERYTHING)
    assert lost.calls == ["delete_session", "purge_session"]
    assert await store.deleted_sessions(10) == [SESSION]


async def test_sleep_returns_the_session_that_it_read(store: SqliteStore, activity: RedisActivity) -> None:
    await wake(activity)
    counted = LostAfter(store)
    lifecycle = Lifecycle(Kit(cast(Store, counted), activity, Classes(), AllAuto()), Nothing())
    session, had_pod = await lifecycle.sleep(SESSION, EVERYTHING, when_idle=False)
    assert (session.uuid, had_pod) == (SESSION, True)
    assert counted.calls == ["get_session"]
    assert not (await lifecycle.sleep(SESSION, EVERYTHING, when_idle=False)).had_pod


async def test_a_session_deleted_before_redis_is_updated(
    store: SqliteStore,
    activity: RedisActivity,
    turns: Open,
    tools: TurnTools,
    pods: Pods,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """The release of its turn is repeated in the background, and has nothing to do any more."""
    answers: list[Exception] = [ActivityUnavailable(), SessionGone()]

    async def finish(*args: Any, **options: Any) -> int:
        raise answers.pop(0)

    await wake(activity)
    monkeypatch.setattr(activity, "finish", finish)
    service = turns(store)
    pods.may_answer.set()
    assert await service.outcome(await service.submit(NEW, EVERYTHING), 5.0, None) == Outcome.processed("{}")
    await until(lambda: not answers)
    await tools.late.close()
    assert not caplog.records


async def test_who_waits_reads_sql_for_news_and_not_for_each_piece(store: SqliteStore, turns: Open) -> None:
    asked = LostAfter(store)
    service = turns(asked)
    ticket = await service.submit(NEW, EVERYTHING)
    waiting = asyncio.create_task(service.outcome(ticket, 0.01, 20.0))
    await until(lambda: "get_message" in asked.calls)
    before = asked.calls.count("get_message")
    for number in range(20):
        await service.kit.activity.notify(SESSION, {"kind": "delta", "message_id": MESSAGE, "chunk": number})
    await store.record(MESSAGE, 1, Outcome.processed("{}"), [])
    await service.kit.activity.notify(SESSION, {"kind": "event", "number": 1, "message_id": MESSAGE})
    outcome = await waiting
    assert outcome is not None
    assert asked.calls.count("get_message") <= before + 2
