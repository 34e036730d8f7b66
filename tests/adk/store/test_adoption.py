"""Our sessions follow the rows that a real ADK service creates or removes."""

from __future__ import annotations

import asyncio

import pytest

from session_manager.domain.access import EVERYTHING
from session_manager.domain.adk.model import AdkKey, ClassAndTtl
from session_manager.domain.errors import InvalidInput, NotFound
from session_manager.domain.message import Outcome
from session_manager.domain.session import Status
from session_manager.domain.times import micros
from session_manager.store.protocol import AdkQuery, SessionQuery
from session_manager.store.sql import SqlStore
from tests.adk.store.made import event, key_of, made, new_key
from tests.store.after_commit import Failing
from tests.store.databases import Opened, PostgresDatabase, make, new_session, say


async def insert(opened: Opened, key: AdkKey, at: float | None = None) -> None:
    """Create a session like a real service, at ``at`` or now."""
    at = at if at is not None else (await opened.stores[0].now()) / 1e6
    moment = f"to_timestamp({at!r}) AT TIME ZONE 'UTC'" if isinstance(opened.database, PostgresDatabase) else repr(at)
    for sql in (
        f"INSERT INTO app_states VALUES ('{key.app}', '{{}}', {moment}) ON CONFLICT DO NOTHING",
        f"INSERT INTO user_states VALUES ('{key.app}', '{key.user_id}', '{{}}', {moment}) ON CONFLICT DO NOTHING",
        f"INSERT INTO sessions VALUES ('{key.app}', '{key.user_id}', '{key.id}', '{{\"n\": 1}}', {moment}, {moment})",
    ):
        await opened.database.rows(sql)


async def remove(opened: Opened, key: AdkKey) -> None:
    await opened.database.rows(f"DELETE FROM events WHERE session_id = '{key.id}'")
    await opened.database.rows(f"DELETE FROM sessions WHERE id = '{key.id}' AND user_id = '{key.user_id}'")


async def notes(opened: Opened) -> int:
    return (await opened.database.rows("SELECT count(*) FROM adk_note"))[0][0]


@pytest.mark.parametrize("sight", ["record", "get", "append", "list", "sweep"])
async def test_adopted_on_first_use(opened: Opened, store: SqlStore, sight: str) -> None:
    key = new_key(app="theirs")
    await insert(opened, key)
    store.adopt_as = lambda app: ClassAndTtl(f"class of {app}", micros(5))
    match sight:
        case "record":
            await store.adk_record(key)
        case "get":
            assert (await store.adk_get(key)).state == {"n": 1}
        case "append":
            await store.adk_append(key, [event()])
        case "list":
            [listed] = (await store.adk_list(AdkQuery("theirs", EVERYTHING))).sessions
            assert listed.uuid == (await store.adk_record(key)).uuid
        case "sweep":
            assert await store.adk_sweep(10) == (1, [])
    session = await store.adk_record(key)
    assert (session.app, session.user_id, session.adk_id, session.class_name) == (*key, "class of theirs")
    assert session.expires_at - session.last_activity == micros(5)
    assert await store.adk_sweep(10) == (0, [])
    assert await notes(opened) == 0
    assert (await store.adk_record(key)).uuid == session.uuid
    await say(store, session.uuid)


async def test_an_append_adopts_in_its_own_transaction(opened: Opened, store: SqlStore) -> None:
    key = new_key()
    await insert(opened, key)
    failing = Failing(store)
    await store.adk_append(key._replace(id=f" {key.id}"), [event()])
    failing.end()
    assert len((await store.adk_get(key)).events) == 1


async def test_adopted_once_however_many_look(opened: Opened, store: SqlStore) -> None:
    other, keys = await opened(), [new_key() for _ in range(5)]
    for key in keys:
        await insert(opened, key)
    calls = [[store, other][n % 2].adk_get(key) for n in range(4) for key in keys]
    sweeps = [each.adk_sweep(10) for each in (store, other)]
    sessions, _ = await asyncio.gather(asyncio.gather(*calls), asyncio.gather(*sweeps))
    assert len({session.uuid for session in sessions}) == len(keys)
    assert (await store.list_sessions(SessionQuery(EVERYTHING, cold=frozenset(Status)))).total == len(keys)


async def test_a_list_adopts_many_at_once(opened: Opened, store: SqlStore) -> None:
    keys = [new_key() for _ in range(3)]
    for key in keys:
        await insert(opened, key)
    listed = (await store.adk_list(AdkQuery("app", EVERYTHING, limit=2))).sessions
    assert len({session.uuid for session in listed} - {""}) == 2
    assert await store.adk_sweep(10) == (1, [])
    assert {session.key for session in (await store.adk_list(AdkQuery("app", EVERYTHING))).sessions} == set(keys)


async def test_a_session_unused_for_long_is_adopted_as_expired(opened: Opened, store: SqlStore) -> None:
    key = new_key()
    await insert(opened, key, 1e9)
    session = await store.adk_record(key)
    assert (session.created_at, session.last_activity) == (micros(1e9), micros(1e9))
    assert session.expired_at is not None
    assert await store.expirable(10) == []
    await say(store, session.uuid)
    assert (await store.get_session(session.uuid, EVERYTHING)).expired_at is None


@pytest.mark.parametrize("sight", ["record", "get", "append", "create", "sweep"])
async def test_closed_after_its_row_was_removed(opened: Opened, store: SqlStore, sight: str) -> None:
    key, other = await made(store), await made(store)
    await store.adk_append(key, [event(text="forget me")])
    await store.remember(key)
    uuid = (await store.adk_record(key)).uuid
    message = await say(store, uuid)
    await remove(opened, key)
    if sight == "sweep":
        assert await store.adk_sweep(10) == (0, [uuid])
    elif sight == "create":
        assert (await store.adk_get(await made(store, key))).uuid != uuid
    else:
        calls = {
            "record": store.adk_record,
            "get": store.adk_get,
            "append": lambda key: store.adk_append(key, [event()]),
        }
        with pytest.raises(NotFound):
            await calls[sight](key)  # type: ignore[operator]
    with pytest.raises(NotFound):
        await store.get_session(uuid, EVERYTHING)
    assert await store.deleted_sessions(10) == [uuid], "its teardown is that of any deleted session"
    assert await store.begin_redelivery(message) is None
    assert await store.search_memory("app", "ann", "forget", 9) == []
    assert await store.adk_sweep(10) == (0, [])
    await store.adk_get(other)


async def test_made_again_under_the_same_key(opened: Opened, store: SqlStore) -> None:
    key = await made(store)
    uuid = (await store.adk_record(key)).uuid
    await remove(opened, key)
    await insert(opened, key)
    assert await store.adk_sweep(10) == (0, [])
    assert (await store.adk_get(key)).uuid == uuid


async def test_never_closed_for_a_row_that_never_existed(opened: Opened, store: SqlStore) -> None:
    uuid = await make(store)
    await opened.database.rows(f"UPDATE session SET adk_row = 0 WHERE uuid = '{uuid}'")
    await opened.database.rows(f"DELETE FROM sessions WHERE id = '{uuid}'")
    assert await store.adk_sweep(10) == (0, [])
    session = await store.get_session(uuid, EVERYTHING)
    assert (await store.adk_get(AdkKey(session.app, session.user_id, uuid))).uuid == uuid
    assert await opened.database.rows("SELECT adk_row FROM session") == [(1,)]
    assert await store.adk_sweep(10) == (0, [])


async def test_expiry_leaves_adks_rows(opened: Opened, store: SqlStore) -> None:
    session = await store.create_session(new_session(ttl=1))
    key = AdkKey(session.app, session.user_id, session.adk_id)
    await store.adk_append(key, [event()])
    while not await store.expire(session.uuid, session.last_activity):
        pass
    assert await store.adk_sweep(10) == (0, [])
    assert len((await store.adk_get(key)).events) == 1


async def test_our_own_changes_are_not_noted(opened: Opened, store: SqlStore) -> None:
    keys = [await made(store), await made(store, new_key(user="bob"))]
    await make(store)
    await store.adk_append(keys[0], [event()])
    await store.delete_session((await store.adk_record(keys[0])).uuid, EVERYTHING)
    assert await notes(opened) == 0


async def test_a_delete_by_an_older_version_removes_adks_rows(opened: Opened, store: SqlStore) -> None:
    uuid, now = await make(store), await store.now()
    await opened.database.rows(f"UPDATE session SET deleted_at = {now} WHERE uuid = '{uuid}'")
    assert await opened.database.rows("SELECT * FROM sessions") == []
    assert await store.adk_sweep(10) == (0, [])


async def test_a_sweep_is_limited(opened: Opened, store: SqlStore) -> None:
    for _ in range(5):
        await insert(opened, new_key())
    assert [await store.adk_sweep(2) for _ in range(4)] == [(2, []), (2, []), (1, []), (0, [])]


NO_TIME = {"sqlite": "'2026-01-31 12:00:00.000000'", "postgresql": "'infinity'"}


async def test_a_row_without_a_time_blocks_no_other(opened: Opened, store: SqlStore) -> None:
    """ADK's service for servers writes times as text into a SQLite file, which is not supported."""
    first, second, third = (new_key(app="theirs") for _ in range(3))
    for key in (first, second, third):
        await insert(opened, key)
    no_time = NO_TIME["postgresql" if isinstance(opened.database, PostgresDatabase) else "sqlite"]
    await opened.database.rows(f"UPDATE sessions SET update_time = {no_time} WHERE id = '{first.id}'")
    await opened.database.rows(f"UPDATE sessions SET create_time = {no_time} WHERE id = '{second.id}'")
    assert await store.adk_sweep(10) == (1, [])
    assert await notes(opened) == 0
    assert [session.key for session in (await store.adk_list(AdkQuery("theirs", EVERYTHING))).sessions] == [third]
    for key in (first, second):
        with pytest.raises(InvalidInput):
            await store.adk_append(key, [event()])


async def test_a_session_of_an_app_without_a_class_is_adopted_once_there_is_one(
    opened: Opened, store: SqlStore
) -> None:
    classless, other = [new_key(app="classless") for _ in range(2)], new_key(app="theirs")
    for key in (*classless, other):
        await insert(opened, key)
    classes = {"theirs": ClassAndTtl("theirs", micros(5))}

    def adopt_as(app: str) -> ClassAndTtl:
        if app not in classes:
            raise InvalidInput(f"unknown class {app!r}", "class")
        return classes[app]

    store.adopt_as = adopt_as
    assert await store.adk_sweep(10) == (1, [])
    assert await notes(opened) == 2
    assert (await store.adk_list(AdkQuery("classless", EVERYTHING))).sessions == []
    with pytest.raises(InvalidInput, match="unknown class"):
        await store.adk_record(classless[0])
    classes["classless"] = ClassAndTtl("late", micros(5))
    assert await store.adk_sweep(10) == (2, [])
    assert await notes(opened) == 0
    assert (await store.adk_record(classless[0])).class_name == "late"


async def test_sessions_without_a_class_block_no_others(opened: Opened, store: SqlStore) -> None:
    def adopt_as(app: str) -> ClassAndTtl:
        if app == "classless":
            raise InvalidInput(f"unknown class {app!r}", "class")
        return ClassAndTtl(app, micros(5))

    store.adopt_as = adopt_as
    for key in [*(new_key(app="classless") for _ in range(4)), new_key(app="theirs")]:
        await insert(opened, key)
    assert [await store.adk_sweep(2) for _ in range(4)] == [(0, []), (0, []), (1, []), (0, [])]
    assert await notes(opened) == 4
    await insert(opened, new_key(app="theirs"))
    assert sum([(await store.adk_sweep(2))[0] for _ in range(3)]) == 1, "it starts again with the first note"


async def test_turns_of_a_session_whose_row_has_no_time_are_skipped(opened: Opened, store: SqlStore) -> None:
    key = await key_of(store, new_session())
    no_time = NO_TIME["postgresql" if isinstance(opened.database, PostgresDatabase) else "sqlite"]
    await opened.database.rows(f"UPDATE sessions SET update_time = {no_time} WHERE id = '{key.id}'")
    message_id = await say(store, key.id)
    assert await store.record(message_id, 1, Outcome.processed("{}"), [("turn.processed", "{}")]) is not None
    await store.adk_catch_up(key.id)
    assert await store.adk_behind(9) == []
