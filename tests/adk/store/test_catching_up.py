"""The ADK events of turns of other pods are written afterwards, once each and in order, however late."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from session_manager.domain.access import EVERYTHING, OneSession
from session_manager.domain.adk.model import AdkEvent, AdkKey, AdkTurn
from session_manager.domain.adk.turn_events import user_event
from session_manager.domain.errors import InvalidInput, StaleSession
from session_manager.domain.message import Attempt, Message, Outcome
from session_manager.store.sql import SqlStore
from session_manager.store.transactions.adk_turns import AT_ONCE
from tests.adk.store.made import event, key_of, made, texts
from tests.store.databases import Database, Opened, new_message, new_session, say

USER_EVENT = "session_manager.store.transactions.adk_turns.user_event"
ENDED = [("turn.processed", "{}")]
FAILED = [("turn.failed", "{}")]


async def turn(store: SqlStore, uuid: str, said: str, outcome: Outcome | None = None) -> None:
    message = await say(store, uuid, said)
    answered = outcome or Outcome.processed(json.dumps({"reply": said.upper()}))
    kind = ENDED if answered.error is None else FAILED
    assert await store.record(message, 1, answered, [("note", "{}"), *kind]) is not None


async def session(store: SqlStore) -> tuple[str, AdkKey]:
    key = await key_of(store, new_session())
    return key.id, key


async def rows(database: Database, key: AdkKey) -> int:
    """Return the number of the session's events in ADK's table."""
    [(count,)] = await database.rows(f"SELECT count(*) FROM events WHERE session_id = '{key.id}'")
    return int(count)


async def test_missing_events_are_written_before_adks_api_reads(opened: Opened, store: SqlStore) -> None:
    uuid, key = await session(store)
    before = (await store.adk_get(key)).update_time
    for said in ("a", "b"):
        await turn(store, uuid, said)
    assert await rows(opened.database, key) == 0, "they are not written during a turn"
    assert await store.adk_behind(9) == [uuid]
    found = await store.adk_get(key)
    assert texts(found.events) == ["a", "A", "b", "B"]
    assert found.update_time > before
    assert await store.adk_behind(9) == []
    await turn(store, uuid, "c")
    assert texts((await store.adk_get(key, 2)).events) == ["c", "C"]


async def test_events_written_twice_at_once_are_stored_once(opened: Opened, store: SqlStore) -> None:
    uuid, key = await session(store)
    other = await opened()
    for said in ("a", "b", "c"):
        await turn(store, uuid, said)
        await asyncio.gather(*(each.adk_catch_up(uuid) for each in (store, other) * 3), store.adk_get(key))
    assert texts((await other.adk_get(key)).events) == ["a", "A", "b", "B", "c", "C"]


async def test_more_than_fit_into_one_commit(opened: Opened, store: SqlStore) -> None:
    uuid, key = await session(store)
    for n in range(AT_ONCE + 1):
        await turn(store, uuid, f"x{n}")
    await store.adk_catch_up(uuid)
    assert await rows(opened.database, key) == 2 * (AT_ONCE + 1)
    events = texts((await store.adk_get(key)).events)
    assert events == [said for n in range(AT_ONCE + 1) for said in (f"x{n}", f"X{n}")]


async def test_many_sessions_in_one_commit(store: SqlStore) -> None:
    sessions = [await session(store) for _ in range(5)]
    for n in range(AT_ONCE // 5 + 1):
        for uuid, _ in sessions:
            await turn(store, uuid, f"x{n}")
    unknown = new_session().uuid
    await store.adk_catch_up(unknown, *(uuid for uuid, _ in sessions))
    assert await store.adk_behind(9) == []
    for _, key in sessions:
        events = texts((await store.adk_get(key)).events)
        assert events == [said for n in range(AT_ONCE // 5 + 1) for said in (f"x{n}", f"X{n}")]


async def test_a_turn_that_failed_and_one_that_was_cancelled(store: SqlStore) -> None:
    uuid, key = await session(store)
    first, waiting = await say(store, uuid, "a"), await say(store, uuid, "b")
    await store.record(waiting, None, Outcome.failed("cancelled"), FAILED)
    await store.record(first, 1, Outcome.failed("boom \0"), FAILED)
    events = [json.loads(data) for data in (await store.adk_get(key)).events]
    assert [each.get("error_message") for each in events] == [None, "cancelled", None, "boom \ufffd"]
    assert texts([json.dumps(each) for each in events[::2]]) == ["b", "a"]


async def test_reported_events_come_after_missing_ones(store: SqlStore) -> None:
    uuid, key = await session(store)
    await turn(store, uuid, "a")
    message = await say(store, uuid, "b")
    told = AdkTurn(event(text="b"), (event(text="from the pod"),))
    assert await store.record(message, 1, Outcome.processed("{}"), ENDED, told) is not None
    assert await store.adk_behind(9) == []
    await turn(store, uuid, "c")
    assert texts((await store.adk_get(key)).events) == ["a", "A", "b", "from the pod", "c", "C"]


async def test_a_pod_that_keeps_its_own_history(store: SqlStore) -> None:
    uuid, key = await session(store)
    await turn(store, uuid, "a")
    message = await say(store, uuid, "b")
    await store.adk_append(
        key,
        [event(2e9, text="the pod's b"), event(2e9, text="its reply")],
        access=OneSession(uuid, Attempt(message, 1)),
    )
    await store.record(message, 1, Outcome.processed('{"reply": "its reply"}'), ENDED)
    assert texts((await store.adk_get(key)).events) == ["a", "A", "the pod's b", "its reply"]
    message = await say(store, uuid, "c")
    await store.adk_append(key, [event(3e9, text="the pod's c")], access=OneSession(uuid, Attempt(message, 1)))
    await store.record(message, None, Outcome.failed("cancelled"), FAILED)
    *_, last, ended = (await store.adk_get(key)).events
    assert texts([last]) == ["the pod's c"]
    assert json.loads(ended)["error_message"] == "cancelled"


async def test_a_cancel_before_the_first_event_of_such_a_pod(store: SqlStore) -> None:
    uuid, key = await session(store)
    message = await say(store, uuid, "b")
    await store.record(message, None, Outcome.failed("cancelled"), FAILED)
    said, ended = (await store.adk_get(key)).events
    assert texts([said]) == ["b"]
    assert json.loads(ended)["error_message"] == "cancelled"


async def test_a_writer_that_has_not_seen_a_turn_is_stale(store: SqlStore) -> None:
    uuid, key = await session(store)
    seen = (await store.adk_get(key)).update_time
    await turn(store, uuid, "a")
    with pytest.raises(StaleSession):
        await store.adk_append(key, [event(text="b")], seen=seen)
    await store.adk_append(key, [event(2e9, text="b")], seen=(await store.adk_get(key)).update_time)
    assert texts((await store.adk_get(key)).events) == ["a", "A", "b"]


async def test_an_append_comes_after_the_turns_before_it(store: SqlStore) -> None:
    uuid, key = await session(store)
    await turn(store, uuid, "a")
    await store.adk_append(key, [event(2e9, text="b")])
    await turn(store, uuid, "c")
    assert texts((await store.adk_get(key)).events) == ["a", "A", "b", "c", "C"]


async def test_a_change_of_state_by_a_run(store: SqlStore) -> None:
    key, other = await made(store), await made(store)
    uuid = (await store.adk_record(key)).uuid
    payload = json.dumps({"newMessage": {"parts": [{"text": "a"}]}, "stateDelta": {"n": 1, "user:u": 2, "temp:t": 3}})
    accepted = await store.accept(new_message(uuid, payload=payload), EVERYTHING)
    await store.record(accepted.message.id, 1, Outcome.processed("{}"), ENDED)
    assert (await store.adk_get(key)).state == {"n": 1, "user:u": 2}
    assert (await store.adk_get(other)).state == {"user:u": 2}


async def test_events_that_no_database_stores_are_left_out(store: SqlStore, monkeypatch: pytest.MonkeyPatch) -> None:
    (uuid, key), (other, beside) = await session(store), await session(store)
    await turn(store, uuid, "a")
    await turn(store, other, "fine")

    def cannot(message: Message, *rest: Any) -> AdkEvent:
        if message.text == "a":
            raise ValueError
        return user_event(message, *rest)

    with monkeypatch.context() as patched:
        patched.setattr(USER_EVENT, cannot)
        await store.adk_catch_up(uuid, other)
    assert await store.adk_behind(9) == []
    assert texts((await store.adk_get(beside)).events) == ["fine", "FINE"]
    await turn(store, uuid, "b")
    assert texts((await store.adk_get(key)).events) == ["b", "B"]


async def test_a_session_that_an_adk_service_removed(opened: Opened, store: SqlStore) -> None:
    uuid, key = await session(store)
    await turn(store, uuid, "a")
    await opened.database.rows(f"DELETE FROM sessions WHERE id = '{key.id}'")
    await store.adk_catch_up(uuid)
    assert await store.adk_sweep(9) == (0, [uuid])
    assert await store.adk_behind(9) == []


async def test_memory_includes_the_last_turn(store: SqlStore) -> None:
    uuid, key = await session(store)
    await turn(store, uuid, "tulips")
    await store.remember(key)
    assert len(await store.search_memory(key.app, key.user_id, "tulips", 9)) == 2


@pytest.mark.parametrize("error", [ValueError(), InvalidInput("State is too long")])
async def test_memory_leaves_out_events_that_no_database_stores(
    store: SqlStore, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    uuid, key = await session(store)
    await store.adk_append(key, [event(text="tulips")])
    await turn(store, uuid, "a")

    def fails(*_: Any) -> AdkEvent:
        raise error

    with monkeypatch.context() as patched:
        patched.setattr(USER_EVENT, fails)
        assert await store.remember(key._replace(id=f" {key.id}")) == 1
    assert await store.adk_behind(9) == []
    assert len(await store.search_memory(key.app, key.user_id, "tulips", 9)) == 1
