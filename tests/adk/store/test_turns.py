"""The ADK events of a turn are stored in the commit that records it."""

from __future__ import annotations

import asyncio
import json

import pytest

from session_manager.domain.access import EVERYTHING, OneSession
from session_manager.domain.adk.model import AdkEvent, AdkKey, AdkTurn
from session_manager.domain.errors import Forbidden, StoreUnavailable
from session_manager.domain.message import Attempt
from session_manager.store.sql import SqlStore
from tests.adk.store.made import event, ids, made, new_key, texts
from tests.store.databases import DONE, Opened, new_id, new_message, say


async def message_of(store: SqlStore, key: AdkKey) -> str:
    return await say(store, (await store.adk_record(key)).uuid)


async def record(store: SqlStore, key: AdkKey, turn: AdkTurn) -> None:
    assert await store.record(await message_of(store, key), 1, DONE, [("reply", "{}")], turn) is not None


async def test_a_turn_leaves_its_events_in_order(store: SqlStore) -> None:
    key = await made(store)
    updated = (await store.adk_get(key)).update_time
    await record(store, key, AdkTurn(None, (event(5.0, text="a"), event(4.0, text="b"))))
    await record(store, key, AdkTurn(event(9.0, text="c"), (event(updated + 50, text="d"), event(1.0, text="e"))))
    await record(store, key, AdkTurn(None, (event(updated + 9, text="f"),)))
    session = await store.adk_get(key)
    assert texts(session.events) == list("abcdef")
    assert session.update_time > updated + 50
    assert texts((await store.adk_get(key, 2)).events) == ["e", "f"]
    assert json.loads(session.events[0])["timestamp"] == 5.0, "event data is never changed"


async def test_a_turn_changes_state(store: SqlStore) -> None:
    key, other = await made(store, state={"n": 1, "o": {"a": 1}}), await made(store)
    delta = {"n": None, "o": {"b": 2}, "app:a": 1, "user:u": [1]}
    await record(store, key, AdkTurn(event(), (event(delta=delta), event(delta={"user:u": 2}))))
    assert (await store.adk_get(key)).state == {"n": None, "o": {"b": 2}, "app:a": 1, "user:u": 2}
    assert (await store.adk_get(other)).state == {"app:a": 1, "user:u": 2}


async def test_what_the_pod_stored_itself_is_not_stored_again(store: SqlStore) -> None:
    key, message_event, reply = await made(store), event(text="said"), event(text="reply", delta={"n": 1})
    await store.adk_append(key, [message_event, reply])
    changed = reply._replace(delta=event(delta={"n": 2}).delta)
    await record(store, key, AdkTurn(event(text="said, the front door's"), (changed, event(text="more"))))
    session = await store.adk_get(key)
    assert texts(session.events) == ["said", "reply", "more"]
    assert session.state == {"n": 1}
    before = session.update_time
    await record(store, key, AdkTurn(event(text="again"), (changed,)))
    assert (await store.adk_get(key)).update_time == before, "nothing new"


async def test_the_same_event_twice_in_a_turn_is_one(store: SqlStore) -> None:
    key, twice = await made(store), event(text="twice")
    await record(store, key, AdkTurn(event(text="said"), (twice, twice)))
    assert texts((await store.adk_get(key)).events) == ["said", "twice"]
    once = event(text="once")
    await record(store, key, AdkTurn(None, (once, once)))
    assert texts((await store.adk_get(key)).events) == ["said", "twice", "once"]


async def test_the_fence_applies_to_them_too(store: SqlStore) -> None:
    key = await made(store)
    message = await message_of(store, key)
    await store.begin_redelivery(message)
    assert await store.record(message, 1, DONE, [], AdkTurn(None, (event(delta={"n": 1}),))) is None
    assert await store.record(message, 1, DONE, [], AdkTurn(None, (event(),))) is None
    session = await store.adk_get(key)
    assert (session.events, session.state) == ([], {})
    assert await store.record(message, 2, DONE, [], AdkTurn(event(text="said"), (event(text="reply"),))) == []
    assert await store.record(message, 2, DONE, [], AdkTurn(None, (event(),))) is None
    assert texts((await store.adk_get(key)).events) == ["said", "reply"]


async def test_one_of_many_records_a_turn(opened: Opened, store: SqlStore) -> None:
    key, other = await made(store), await opened()
    turns = [AdkTurn(None, (event(delta={"by": n} if n % 2 else None, text=str(n)),)) for n in range(8)]
    for _ in range(3):
        message = await message_of(store, key)
        before = (await store.adk_get(key)).events
        results = await asyncio.gather(
            *([store, other][n // 4].record(message, 1, DONE, [], turn) for n, turn in enumerate(turns))
        )
        assert sum(result is not None for result in results) == 1
        [winner] = [n for n, result in enumerate(results) if result is not None]
        after = (await store.adk_get(key)).events
        assert texts(after) == [*texts(before), str(winner)]
        turns[winner] = AdkTurn(None, (event(text=str(winner)),))


async def test_a_pod_reads_and_writes_while_its_attempt_is_open(store: SqlStore) -> None:
    key, other = await made(store), await made(store)
    message, uuid = await message_of(store, key), (await store.adk_record(key)).uuid

    def turn(number: int, message_id: str = message, session: str = uuid) -> OneSession:
        return OneSession(session, Attempt(message_id, number))

    async def is_rejected(where: AdkKey, access: OneSession) -> None:
        for call in (store.adk_append(where, [event(text="b")], access=access), store.adk_get(where, access=access)):
            with pytest.raises(Forbidden):
                await call

    await store.adk_append(key, [event(text="a")], access=turn(1))
    assert texts((await store.adk_get(key, access=turn(1))).events) == ["a"]
    await is_rejected(other, turn(1))
    await is_rejected(new_key(), turn(1))
    await is_rejected(key, turn(2))
    await is_rejected(key, turn(1, new_id()))
    await is_rejected(other, turn(1, session=(await store.adk_record(other)).uuid))
    await store.begin_redelivery(message)
    await is_rejected(key, turn(1))
    await store.adk_append(key, [event(2e9, text="d")], access=turn(2))
    await store.record(message, 2, DONE)
    await is_rejected(key, turn(2))
    assert texts((await store.adk_get(key)).events) == ["a", "d"]


BAD = [
    event(text="a \0 b", delta={"k\0": "\0"}),
    event(text="half \ud800 of one"),
    event(data='{"content": nothing}'),
    event(id="x" * 200),
    event(float("inf")),
    event(delta={"x": float("nan")}, data="{}"),
]


@pytest.mark.parametrize("bad", BAD)
async def test_no_event_keeps_a_turn_from_ending(store: SqlStore, bad: AdkEvent) -> None:
    key = await made(store)
    await record(store, key, AdkTurn(event(text="said"), (bad,)))
    await record(store, key, AdkTurn(None, (bad._replace(id=bad.id[::-1]),)))
    session = await store.adk_get(key)
    assert len(session.events) in (0, 1, 3)
    await store.adk_append(key, [event()])


async def test_a_session_that_was_deleted_meanwhile(store: SqlStore) -> None:
    key = await made(store)
    message = await message_of(store, key)
    await store.delete_session((await store.adk_record(key)).uuid, EVERYTHING)
    assert await store.record(message, 1, DONE, [], AdkTurn(event(), (event(),))) is None


async def test_a_message_carries_what_the_run_was_given(store: SqlStore) -> None:
    key = await made(store)
    uuid = (await store.adk_record(key)).uuid
    payload = '{"state_delta": {"ü": null}}'
    accepted = await store.accept(new_message(uuid, payload=payload, idempotency_key="k"), EVERYTHING)
    assert accepted.message.payload == payload
    message = accepted.message.id
    assert (await store.get_message(uuid, message, EVERYTHING)).payload == payload
    redelivered = await store.begin_redelivery(message)
    assert redelivered is not None
    assert redelivered.payload == payload
    assert (await store.accept(new_message(uuid, idempotency_key="k"), EVERYTHING)).message.payload == payload
    assert (await store.accept(new_message(uuid), EVERYTHING)).message.payload is None


async def test_a_store_that_was_closed(opened: Opened, store: SqlStore) -> None:
    key = await made(store)
    await store.close()
    for call in (store.adk_get(key), store.adk_append(key, [event()]), store.adk_sweep(1)):
        with pytest.raises(StoreUnavailable):
            await call
    assert ids((await (await opened()).adk_get(key)).events) == []
