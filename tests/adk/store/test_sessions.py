"""Sessions, their state and events, as ADK's services keep them."""

from __future__ import annotations

import asyncio
import json

import pytest

from session_manager.domain.access import EVERYTHING, NOTHING, Access, OneSession, OwnedBy
from session_manager.domain.adk.model import AdkKey, NewAdkSession
from session_manager.domain.errors import Conflict, InvalidInput, NotFound, StaleSession
from session_manager.domain.message import Attempt
from session_manager.store.protocol import AdkQuery
from session_manager.store.sql import SqlStore
from session_manager.store.transactions.adk_rows import KNOWN_OF_MANY
from session_manager.store.transactions.base import in_postgres
from tests.adk.store.made import event, ids, key_of, made, new_key, texts
from tests.store.databases import DAY, Opened, PostgresDatabase, new_id, new_session

STATE = {"app:a": 1, "user:u": [1, 2], "temp:t": "gone", "s": {"deep": {"x": None}}, "n": None}
KEPT = {key: value for key, value in STATE.items() if key != "temp:t"}
ODD = {
    "ü😀 \n\"'": "☃",
    "big": 2**70,
    "float": 0.1 + 0.2,
    "minus": -(2**63) - 1,
    "": "",
    "nested": [[], {}, [None, True]],
}


async def test_a_new_session_is_also_in_our_table(store: SqlStore) -> None:
    key = new_key(app="some app")
    record, created = await store.adk_create(NewAdkSession(new_id(), key, "echo", DAY, STATE))  # type: ignore[arg-type]
    assert (created.key, created.state, created.events) == (key, KEPT, [])
    assert await store.adk_get(key) == created
    session = await store.get_session(created.uuid, EVERYTHING)
    assert (session.app, session.user_id, session.adk_id, session.class_name) == (*key, "echo")
    assert await store.adk_record(key) == session == record


async def test_a_session_of_our_api_is_also_in_adks_tables(store: SqlStore) -> None:
    new = new_session(user="bob", class_name="echo")
    key = await key_of(store, new)
    assert key == AdkKey("echo", "bob", new.uuid)
    session = await store.adk_get(key)
    assert (session.uuid, session.state, session.events) == (new.uuid, {}, [])
    assert await store.adk_append(key, [event(delta={"n": 1})]) > session.update_time
    assert (await store.adk_get(key)).state == {"n": 1}


async def test_a_taken_id_writes_nothing(store: SqlStore) -> None:
    key = await made(store, state={"app:a": 1})
    with pytest.raises(Conflict, match=f"^Session already exists: {key.id}$"):
        await made(store, key, state={"app:a": 2, "user:u": 2})
    assert (await store.adk_get(key)).state == {"app:a": 1}
    await made(store, key._replace(user_id="bob"))


async def test_one_of_many_gets_an_id(opened: Opened, store: SqlStore) -> None:
    other, key = await opened(), new_key()
    results = await asyncio.gather(
        *(made([store, other][n % 2], key, state={"app:n": n}) for n in range(8)), return_exceptions=True
    )
    assert sum(result == key for result in results) == 1
    assert sum(isinstance(result, Conflict) for result in results) == 7
    session = await store.adk_get(key)
    assert results[session.state["app:n"]] == key


async def test_state_is_shared_by_prefix(store: SqlStore) -> None:
    first = await made(store, state=STATE)
    second, stranger = await made(store), await made(store, new_key(user="bob"))
    elsewhere = await made(store, new_key(app="other"))
    await store.adk_append(second, [event(delta={"app:a": None, "user:v": 2, "s": {"y": 1}})])
    assert (await store.adk_get(first)).state == KEPT | {"app:a": None, "user:v": 2}
    assert (await store.adk_get(second)).state == {"app:a": None, "user:u": [1, 2], "user:v": 2, "s": {"y": 1}}
    assert (await store.adk_get(stranger)).state == {"app:a": None}
    assert (await store.adk_get(elsewhere)).state == {}
    assert await store.adk_user_state("app", "ann") == {"u": [1, 2], "v": 2}
    assert await store.adk_user_state("app", "nobody") == {}


async def test_a_delta_replaces_values_whole(store: SqlStore) -> None:
    key = await made(store, state={"o": {"a": 1}, "l": [1]})
    await store.adk_append(key, [event(delta={"o": {"b": None}, "l": []}), event(delta={"o": None})])
    assert (await store.adk_get(key)).state == {"o": None, "l": []}


async def test_odd_values_are_returned_unchanged(store: SqlStore) -> None:
    key = await made(store, state=ODD)
    assert (await store.adk_get(key)).state == ODD
    await store.adk_append(key, [event(delta={"user:odd": ODD, "s": ODD}, custom_metadata=ODD)])
    session = await store.adk_get(key)
    assert session.state == ODD | {"user:odd": ODD, "s": ODD}
    assert json.loads(session.events[0])["custom_metadata"] == ODD


async def test_events_are_ordered_by_time_and_then_by_arrival(store: SqlStore) -> None:
    key = await made(store)
    await store.adk_append(key, [event(30, text="c"), event(10, text="a"), event(20, text="b")])
    await store.adk_append(key, [event(40, text=text) for text in "defghijk"])
    assert texts((await store.adk_get(key)).events) == list("abcdefghijk")


async def test_recent_events_and_events_since_a_time(store: SqlStore) -> None:
    key = await made(store, events=tuple(event(n, text=str(n)) for n in range(1, 6)))
    for recent, since, expected in [
        (None, 0, "12345"),
        (2, 0, "45"),
        (0, 0, ""),
        (9, 0, "12345"),
        (None, 3, "345"),
        (None, 3.5, "45"),
        (1, 3, "5"),
        (None, 6, ""),
    ]:
        assert texts((await store.adk_get(key, recent, since)).events) == list(expected), (recent, since)


async def test_a_known_event_is_ignored(store: SqlStore) -> None:
    key, first = await made(store), event(delta={"n": 1})
    updated = await store.adk_append(key, [first, first])
    again = first._replace(delta=event(delta={"n": 2}).delta)
    assert await store.adk_append(key, [again], seen=0.0) == updated, "not stale, because its answer may have been lost"
    second = event(2e9)
    await store.adk_append(key, [again, second])
    session = await store.adk_get(key)
    assert ids(session.events) == [first.id, second.id]
    assert session.state == {"n": 1}
    other = await made(store)
    await store.adk_append(other, [first])
    assert ids((await store.adk_get(other)).events) == [first.id], "an id is known within its session"


async def test_known_events_among_many_are_ignored(opened: Opened, store: SqlStore) -> None:
    key = await made(store)
    many = [event(1e9 + number, delta={"n": number}) for number in range(300)]
    await store.adk_append(key, many[:200])
    await store.adk_append(key, many[100:])
    found = await store.adk_get(key)
    assert ids(found.events) == [each.id for each in many]
    assert found.state == {"n": 299}
    if isinstance(opened.database, PostgresDatabase):
        # Comparing each of twelve thousand ids with all events would exceed the time limit of a query.
        sql = in_postgres(KNOWN_OF_MANY)
        for number, value in enumerate((*key, '["a", "b"]'), 1):
            sql = sql.replace(f"${number}", f"'{value}'")
        assert "hashed SubPlan" in str(await opened.database.rows(f"EXPLAIN {sql}"))


async def test_the_update_time_always_moves(store: SqlStore) -> None:
    key = await made(store)
    last = (await store.adk_get(key)).update_time
    for timestamp in (1.0, last, last + 1e-6, last + 100, last + 100, 5.5):
        updated = await store.adk_append(key, [event(timestamp)])
        assert updated > last
        assert updated == (await store.adk_get(key)).update_time
        last = updated
    assert await store.adk_append(key, [event(last + 7.25)]) == pytest.approx(last + 7.25, abs=1e-6)


async def test_a_writer_with_an_older_copy_is_rejected(store: SqlStore) -> None:
    key = await made(store)
    seen = (await store.adk_get(key)).update_time
    updated = await store.adk_append(key, [event(delta={"n": 1})], seen=seen)
    with pytest.raises(StaleSession):
        await store.adk_append(key, [event(delta={"n": 2})], seen=seen)
    assert (await store.adk_get(key)).state == {"n": 1}
    await store.adk_append(key, [event(delta={"n": 3})], seen=updated)
    await store.adk_append(key, [event()], seen=None)


async def test_no_such_session(store: SqlStore) -> None:
    key = new_key()
    for call in (
        store.adk_get(key),
        store.adk_record(key),
        store.adk_append(key, [event()]),
        store.remember(key),
    ):
        with pytest.raises(NotFound):
            await call


@pytest.mark.parametrize("field", ["app_name", "user_id", "session_id"])
async def test_a_value_that_does_not_fit_names_its_field(store: SqlStore, field: str) -> None:
    names = ("app_name", "user_id", "session_id")
    for bad in ("x" * 129, "a\0b"):
        key = AdkKey(*(bad if name == field else new_id() for name in names))
        with pytest.raises(InvalidInput) as refused:
            await made(store, key)
        assert refused.value.field == field
        assert bad not in refused.value.detail
    await made(store, AdkKey(*("ü" * 128 if name == field else new_id() for name in names)))


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"id": "x" * 129}, "id"),
        ({"invocation_id": "x" * 257}, "invocation_id"),
        ({"timestamp": float("nan")}, "timestamp"),
        ({"timestamp": 1e12}, "timestamp"),
        ({"delta": {"x": float("inf")}, "data": "{}"}, "state"),
    ],
)
async def test_an_event_that_does_not_fit_writes_nothing(store: SqlStore, fields: dict, field: str) -> None:
    key = await made(store)
    before = await store.adk_get(key)
    with pytest.raises(InvalidInput) as refused:
        await store.adk_append(key, [event(), event(**fields)])
    assert refused.value.field == field
    assert await store.adk_get(key) == before


async def test_pages_in_order_of_update(store: SqlStore) -> None:
    keys = [await made(store, state={"n": n}) for n in range(5)]
    await made(store, new_key(user="bob"), state={"user:x": 1, "app:y": 2})
    await store.adk_append(keys[0], [event(3e9)])
    await store.adk_append(keys[2], [event(3e9)])
    whole = await store.adk_list(AdkQuery("app", OwnedBy("ann")))
    assert {session.key for session in whole.sessions} == set(keys)
    assert whole.sessions == sorted(whole.sessions, key=lambda session: (session.update_time, session.key.id))
    assert {session.key for session in whole.sessions[-2:]} == {keys[0], keys[2]}
    assert whole.next_after is None
    assert all(session.events == [] and session.state["app:y"] == 2 for session in whole.sessions)
    assert [session.uuid for session in whole.sessions] == [
        (await store.adk_record(session.key)).uuid for session in whole.sessions
    ]
    seen, after = [], None
    while True:
        page = await store.adk_list(AdkQuery("app", OwnedBy("ann"), after=after, limit=2))
        seen += page.sessions
        after = page.next_after
        if after is None:
            break
    assert seen == whole.sessions
    everybody = (await store.adk_list(AdkQuery("app", EVERYTHING))).sessions
    assert {each.key.user_id: each.state.get("user:x") for each in everybody} == {"ann": None, "bob": 1}
    assert (await store.adk_list(AdkQuery("nothing", EVERYTHING))).sessions == []


async def test_a_page_ends_with_the_state_that_fills_it(store: SqlStore) -> None:
    keys = [await made(store, state={"text": "x" * 1000, "user:all": "y" * 1000}) for _ in range(4)]
    page = await store.adk_list(AdkQuery("app", OwnedBy("ann"), size=3000))
    assert [each.key for each in page.sessions] == keys[:2]
    rest = await store.adk_list(AdkQuery("app", OwnedBy("ann"), page.next_after, size=3000))
    assert [each.key for each in rest.sessions] == keys[2:]
    assert rest.next_after is None
    [alone] = (await store.adk_list(AdkQuery("app", OwnedBy("ann"), size=1))).sessions
    assert alone.key == keys[0]


async def test_a_page_of_all_users_ends_with_the_state_of_a_user_that_fills_it(store: SqlStore) -> None:
    keys = [await made(store, state={"user:all": "y" * 1000} if not number else {}) for number in range(4)]
    page = await store.adk_list(AdkQuery("app", EVERYTHING, size=1500))
    assert [each.key for each in page.sessions] == keys[:2]
    assert page.next_after is not None


@pytest.mark.parametrize("access", [NOTHING, OneSession("s", Attempt("m", 1))], ids=repr)
async def test_a_caller_that_is_no_user_lists_no_sessions(store: SqlStore, access: Access) -> None:
    await made(store)
    assert (await store.adk_list(AdkQuery("app", access))).sessions == []


async def test_some_ids_are_hidden_from_lists(store: SqlStore) -> None:
    shown = await made(store)
    await made(store, AdkKey("app", "ann", "adk-eval-session-1"))
    await made(store, AdkKey("app", "ann", "___eval___session___1"))
    query = AdkQuery("app", OwnedBy("ann"), id_prefix_hidden=("adk-eval-session-", "___eval___session___"))
    assert [session.key for session in (await store.adk_list(query)).sessions] == [shown]


async def test_delete_removes_everything_of_the_session(opened: Opened, store: SqlStore) -> None:
    key, other = await made(store, state=STATE), await made(store)
    await store.adk_append(key, [event(text="remember me")])
    await store.adk_append(other, [event()])
    await store.remember(key)
    await store.delete_session((await store.adk_record(key)).uuid, EVERYTHING)
    with pytest.raises(NotFound):
        await store.adk_get(key)
    for table, column in (("sessions", "id"), ("events", "session_id")):
        assert await opened.database.rows(f"SELECT {column} FROM {table}") == [(other.id,)]
    assert await store.search_memory("app", "ann", "remember", 9) == []
    assert (await store.adk_get(other)).state == {"app:a": 1, "user:u": [1, 2]}
    assert await store.adk_sweep(9) == (0, [])
    again = await made(store, key)
    assert (await store.adk_get(again)).events == []


async def test_the_secret_is_the_same_for_all(opened: Opened, store: SqlStore) -> None:
    stores = [store, *[await opened() for _ in range(3)]]
    secrets = set(await asyncio.gather(*(each.secret("turns") for each in stores)))
    assert len(secrets) == 1
    assert len(secrets.pop()) >= 32
    assert await store.secret("other") != await store.secret("turns")
