"""The end of a session: expiry and delete."""

from __future__ import annotations

import pytest

from session_manager.domain.access import EVERYTHING, OwnedBy
from session_manager.domain.errors import NotFound
from session_manager.domain.times import Micros
from session_manager.store.sql import SqlStore
from session_manager.store.transactions import sessions
from tests.store.databases import DAY, DONE, Database, make, new_id, pass_time, say


async def test_idle_sessions_expire_the_oldest_first(store: SqlStore) -> None:
    first, second, third = [await make(store, ttl=1) for _ in range(3)]
    await make(store, ttl=DAY)
    await store.touch_session(first, EVERYTHING)
    await pass_time(store)
    found = await store.expirable(10)
    assert [session.uuid for session in found] == [second, third, first]
    assert [session.uuid for session in await store.expirable(2)] == [second, third]
    assert await store.expire(second, found[0].last_activity)
    expired = await store.get_session(second, EVERYTHING)
    assert expired.expired_at is not None
    assert expired.last_activity == found[0].last_activity
    assert [session.uuid for session in await store.expirable(10)] == [third, first]
    assert not await store.expire(second, found[0].last_activity)


async def test_a_message_at_the_same_moment_wins_over_expiry(store: SqlStore) -> None:
    session = await make(store, ttl=1)
    read = await store.get_session(session, EVERYTHING)
    await pass_time(store)
    message = await say(store, session)
    assert not await store.expire(session, read.last_activity)
    now_read = await store.get_session(session, EVERYTHING)
    assert not await store.expire(session, now_read.last_activity), "it has an unfinished message"
    await pass_time(store)
    assert await store.expirable(10) == []
    await store.record(message, 1, DONE)
    assert not await store.expire(session, now_read.last_activity), "the turn ended after the session was read"
    assert await store.expire(session, (await store.get_session(session, EVERYTHING)).last_activity)


async def test_what_does_not_exist_does_not_expire(store: SqlStore) -> None:
    session = await make(store, ttl=1)
    read = await store.get_session(session, EVERYTHING)
    await store.delete_session(session, EVERYTHING)
    await pass_time(store)
    assert not await store.expire(session, read.last_activity)
    assert not await store.expire(new_id(), read.last_activity)
    assert await store.expirable(10) == []


async def test_delete_ends_waiting_messages(store: SqlStore, database: Database) -> None:
    session, other = await make(store), await make(store)
    done, open_one, kept = await say(store, session), await say(store, session), await say(store, other)
    await store.record(done, 1, DONE)
    await store.delete_session(session, OwnedBy("ann"))
    rows = await database.rows("SELECT id, status, error, response FROM message ORDER BY seq, id")
    assert {row[0]: row[1] for row in rows} == {done: "processed", open_one: "failed", kept: None}
    assert {row[0]: row[2] for row in rows}[open_one] == "The session was deleted"
    assert [one.id for one in await store.unfinished(await pass_time(store), 10)] == [kept]
    assert await store.record(open_one, 1, DONE, [("reply", "{}")]) is None
    assert await store.begin_redelivery(open_one) is None
    assert await store.events(session, 0, 10) == []
    with pytest.raises(NotFound):
        await store.get_message(session, done, EVERYTHING)
    with pytest.raises(NotFound):
        await store.delete_session(session, EVERYTHING)
    assert (await store.get_message(other, kept, EVERYTHING)).status is None


async def test_a_tombstone_is_kept_until_it_is_dropped(store: SqlStore, database: Database) -> None:
    first, second, alive = await make(store), await make(store), await make(store)
    for session in (first, second, alive):
        message = await say(store, session)
        await store.record(message, 1, DONE, [("reply", "{}")])
    await store.delete_session(second, EVERYTHING)
    await pass_time(store)
    await store.delete_session(first, EVERYTHING)
    assert await store.deleted_sessions(10) == [second, first]
    assert await store.deleted_sessions(1) == [second]
    await store.purge_session(second)
    await store.purge_session(second)
    assert await store.deleted_sessions(10) == [first]
    await store.reopen_teardowns()
    assert await store.deleted_sessions(10) == [second, first]
    await store.purge_session(second)
    later = Micros(await pass_time(store))
    assert await store.drop_tombstones(Micros(0)) == 0
    assert await store.drop_tombstones(later) == 1
    assert await store.drop_tombstones(later) == 0
    assert set(await database.rows("SELECT uuid FROM session")) == {(first,), (alive,)}
    assert set(await database.rows("SELECT session FROM message")) == {(first,), (alive,)}
    assert set(await database.rows("SELECT session FROM session_event")) == {(first,), (alive,)}


async def test_only_the_deleted_are_purged(store: SqlStore) -> None:
    session = await make(store)
    message = await say(store, session)
    await store.purge_session(session)
    await store.purge_session(new_id())
    assert (await store.get_message(session, message, EVERYTHING)).text == "hello"
    assert await store.drop_tombstones(Micros(await pass_time(store))) == 0


async def test_a_long_history_is_purged_in_steps(
    store: SqlStore, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sessions, "PURGE_STEP", 2)
    session = await make(store)
    for n in range(5):
        message = await say(store, session)
        await store.record(message, 1, DONE, [("reply", "{}")] * (n % 3))
    await store.delete_session(session, EVERYTHING)
    await store.purge_session(session)
    assert await database.rows("SELECT 1 FROM message UNION ALL SELECT 1 FROM session_event") == []
    assert await store.deleted_sessions(10) == []
