"""Quotas are exact on each engine: also for simultaneous calls, and after deletes, expiry and changes by others."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Iterable
from typing import Any

import asyncpg
import pytest

from session_manager.domain.access import EVERYTHING
from session_manager.domain.adk.model import AdkEvent, AdkKey, AdkTurn, Delta, NewAdkSession
from session_manager.domain.errors import QueueFull, QuotaExceeded, StorageFull
from session_manager.domain.message import Outcome
from session_manager.domain.quota import Quota, Quotas, Usage
from session_manager.domain.times import Micros
from session_manager.store.postgres.adapter import PostgresStore
from session_manager.store.protocol import AdkQuery, Artifact
from session_manager.store.sql import SqlStore
from session_manager.store.transactions import usage
from session_manager.store.transactions.base import in_postgres, in_sqlite
from tests.store.databases import (
    DAY,
    DONE,
    Database,
    Opened,
    PostgresDatabase,
    make,
    new_id,
    new_message,
    new_session,
    say,
)

LARGE = "x" * usage.STEP
STATE = 2  # bytes of the empty state that every user of an app has
Limited = Callable[..., Coroutine[Any, Any, SqlStore]]


@pytest.fixture
def limited(opened: Opened) -> Limited:
    """Open a store that knows these limits."""

    async def start(named: dict[str, Quota] | None = None, **limits: int) -> SqlStore:
        store = await opened()
        quotas = Quotas(Quota(**limits), named or {})
        store.quotas = quotas
        if isinstance(store, PostgresStore):
            store.__post_init__()
        return store

    return start


async def outcomes(calls: Iterable[Awaitable[Any]]) -> tuple[int, int]:
    """Return the numbers of calls that succeeded and that exceeded a quota."""
    ended = await asyncio.gather(*calls, return_exceptions=True)
    refused = [each for each in ended if isinstance(each, QuotaExceeded)]
    assert all(isinstance(each, QuotaExceeded) or not isinstance(each, BaseException) for each in ended), ended
    return len(ended) - len(refused), len(refused)


def key_of(session: str, user: str = "ann") -> AdkKey:
    return AdkKey("default", user, session)


def event(data: str, **delta: Any) -> AdkEvent:
    return AdkEvent(new_id(), "turn", 1.0, f'{{"text": "{data}"}}', Delta({}, delta, {}))


def artifact(part: str, name: str = "a.txt") -> Artifact:
    return Artifact(name, 0, f'{{"text": "{part}"}}', "text/plain", "{}", 0.0)


# -- sessions ----------------------------------------------------------------------------------------------------------


async def test_a_user_has_so_many_sessions_and_no_more(limited: Limited) -> None:
    store = await limited(sessions=2)
    first, second = await make(store), await make(store)
    with pytest.raises(QuotaExceeded, match="ann has 2 of 2 sessions; delete some") as caught:
        await make(store)
    assert (caught.value.quota, caught.value.limit, caught.value.used) == ("sessions", 2, 2)
    assert await store.usage("ann") == Usage(2, 0, STATE)
    await make(store, user="bob")
    await store.delete_session(first, EVERYTHING)
    third = await make(store)
    assert await store.expire(second, (await store.get_session(second, EVERYTHING)).last_activity)
    await make(store)
    with pytest.raises(QuotaExceeded):
        await make(store)
    await store.touch_session(second, EVERYTHING)
    assert (await store.usage("ann")).sessions == 3, "a message revives a session whatever the quota is"
    await store.delete_session(third, EVERYTHING)
    await store.purge_session(third)
    assert await store.drop_tombstones(Micros(await store.now() + DAY)) == 1
    assert (await store.usage("ann")).sessions == 2


async def test_some_users_have_another_quota_and_adopted_sessions_always_fit(limited: Limited) -> None:
    store = await limited({"bob": Quota(sessions=3), "eve": Quota()}, sessions=1)
    for _ in range(3):
        await make(store, user="bob")
        await make(store, user="eve")
        await store.adopt_session(new_session("ann"))
    for user in ("ann", "bob"):
        with pytest.raises(QuotaExceeded):
            await make(store, user=user)
    await make(store, user="eve")


async def test_sessions_of_adk_count_too(limited: Limited) -> None:
    store = await limited(sessions=1)
    await store.adk_create(NewAdkSession(new_id(), AdkKey("weather", "ann", "one"), "default", Micros(DAY)))
    with pytest.raises(QuotaExceeded):
        await store.adk_create(NewAdkSession(new_id(), AdkKey("weather", "ann", "two"), "default", Micros(DAY)))
    with pytest.raises(QuotaExceeded):
        await make(store)
    assert [each.key.id for each in (await store.adk_list(_all_of_weather())).sessions] == ["one"]


async def test_simultaneous_creates_stop_at_the_limit(limited: Limited) -> None:
    stores = [await limited(sessions=3) for _ in range(2)]
    calls = [make(store) for store in stores for _ in range(4)]
    assert await outcomes(calls) == (3, 5)
    assert (await stores[0].usage("ann")).sessions == 3


# -- messages ----------------------------------------------------------------------------------------------------------


async def test_a_session_takes_so_many_unfinished_messages(limited: Limited) -> None:
    store = await limited(session_messages=3)
    session = await make(store)
    sent = [(await store.accept(new_message(session), EVERYTHING)).message.id for _ in range(3)]
    with pytest.raises(QueueFull, match="3 messages of this session wait or run, of 3 at most") as caught:
        await store.accept(new_message(session), EVERYTHING)
    assert (caught.value.quota, caught.value.used) == ("session_messages", 3)
    await store.accept(new_message(await make(store)), EVERYTHING)
    await store.cancel(session, sent[1], EVERYTHING)
    await store.accept(new_message(session), EVERYTHING)
    with pytest.raises(QueueFull):
        await store.accept(new_message(session), EVERYTHING)
    await store.record(sent[0], 1, DONE)
    await store.accept(new_message(session), EVERYTHING)
    assert len(await store.unfinished_of(session)) == 3


async def test_a_message_that_is_sent_again_is_no_further_one(limited: Limited) -> None:
    store = await limited(session_messages=1, messages=1)
    session = await make(store)
    first = await store.accept(new_message(session, idempotency_key="k", body_hash="h"), EVERYTHING)
    again = await store.accept(new_message(session, idempotency_key="k", body_hash="h"), EVERYTHING)
    assert again.repeated
    assert again.message.id == first.message.id


async def test_a_user_queues_so_many_messages_but_the_first_of_a_session_is_accepted(limited: Limited) -> None:
    store = await limited(messages=3)
    busy, idle = await make(store), await make(store)
    for _ in range(3):
        await store.accept(new_message(busy), EVERYTHING)
    with pytest.raises(QueueFull, match="3 messages of ann wait or run, of 3 at most") as caught:
        await store.accept(new_message(busy), EVERYTHING)
    assert (caught.value.quota, caught.value.limit) == ("messages", 3)
    await store.accept(new_message(idle), EVERYTHING)
    with pytest.raises(QueueFull):
        await store.accept(new_message(idle), EVERYTHING)
    others = await make(store, user="bob")
    for _ in range(3):
        await store.accept(new_message(others), EVERYTHING)
    await store.delete_session(busy, EVERYTHING)
    await store.accept(new_message(idle), EVERYTHING)
    assert (await store.usage("ann")).messages == 2


async def test_simultaneous_messages_stop_at_the_limit(limited: Limited) -> None:
    stores = [await limited(session_messages=3) for _ in range(2)]
    session = await make(stores[0])
    calls = [store.accept(new_message(session), EVERYTHING) for store in stores for _ in range(6)]
    assert await outcomes(calls) == (3, 9)


async def test_of_simultaneous_messages_in_an_idle_session_only_one_is_the_first(limited: Limited) -> None:
    stores = [await limited(messages=1) for _ in range(2)]
    session = await make(stores[0])
    calls = [store.accept(new_message(session), EVERYTHING) for store in stores for _ in range(4)]
    assert await outcomes(calls) == (1, 7)


async def test_simultaneous_messages_in_many_sessions_stop_at_the_limit_of_their_user(limited: Limited) -> None:
    stores = [await limited(messages=5) for _ in range(2)]
    sessions = [await make(stores[0]) for _ in range(3)]
    for session in sessions:
        await stores[0].accept(new_message(session), EVERYTHING)
    calls = [store.accept(new_message(session), EVERYTHING) for store in stores for session in sessions * 3]
    assert await outcomes(calls) == (2, 16)
    assert (await stores[0].usage("ann")).messages == 5


# -- bytes -------------------------------------------------------------------------------------------------------------


async def test_messages_and_replies_fill_the_storage_of_a_user_until_a_session_is_deleted(limited: Limited) -> None:
    store = await limited(stored=5 * usage.STEP)
    session = await make(store)
    first = await store.accept(new_message(session, LARGE), EVERYTHING)
    await store.record(first.message.id, 1, Outcome.processed(f'"{LARGE * 4}"'), [("turn", "{}")])
    with pytest.raises(StorageFull, match="ann has 327686 of 327680 bytes, and this needs more; delete") as caught:
        await store.accept(new_message(session, "hello"), EVERYTHING)
    assert (caught.value.quota, caught.value.limit, caught.value.http_status) == ("stored", 5 * usage.STEP, 413)
    assert await store.unfinished_of(session) == []
    await store.accept(new_message(await make(store, user="bob")), EVERYTHING)
    await store.delete_session(session, EVERYTHING)
    await store.accept(new_message(await make(store), LARGE), EVERYTHING)
    assert (await store.usage("ann")).stored == usage.STEP + STATE


async def test_a_reply_counts_in_all_sessions_of_its_user_once_it_is_recorded(limited: Limited) -> None:
    store = await limited({"bob": Quota(stored=8 * usage.STEP)}, stored=3 * usage.STEP)
    for user in ("ann", "bob"):
        first, second = await make(store, user=user), await make(store, user=user)
        await store.record(await say(store, first), 1, Outcome.processed(LARGE * 4))
        assert (await store.usage(user)).stored >= 4 * usage.STEP
        if user == "bob":
            await say(store, first)
            await say(store, second)
            await make(store, user=user)
            continue
        for attempt in (say(store, first), say(store, second), make(store)):
            with pytest.raises(StorageFull):
                await attempt


@pytest.mark.parametrize("way", ["plain", "failed", "adk", "behind", "many small ones"])
async def test_each_kind_of_result_is_charged(limited: Limited, way: str) -> None:
    store = await limited(stored=10**9)
    session = await make(store)
    large = Outcome.processed(LARGE * 4)
    match way:
        case "plain":
            await store.record(await say(store, session), 1, large, [("turn.processed", "{}")])
        case "failed":
            await store.record(await say(store, session), 1, Outcome.failed(LARGE * 4))
        case "adk":
            await store.record(await say(store, session), 1, DONE, [("turn", "{}")], AdkTurn(None, (event(LARGE * 4),)))
        case "behind":
            sent = await say(store, session)
            await store.record(sent, 1, Outcome.processed(f'{{"reply": "{LARGE * 2}"}}'), [("turn.processed", "{}")])
            before = (await store.usage("ann")).stored
            await store.adk_catch_up(session)
            assert (await store.usage("ann")).stored >= before + usage.STEP
        case _:
            half = Outcome.processed("x" * (usage.STEP // 2))
            for sent in [await say(store, session) for _ in range(8)]:
                await store.record(sent, 1, half)
    assert (await store.usage("ann")).stored >= 4 * usage.STEP
    assert await store._read(_uncharged) < usage.STEP


async def test_a_cancelled_message_is_charged_like_others(limited: Limited) -> None:
    store = await limited(stored=10**9)
    session = await make(store)
    sent = await store.accept(new_message(session, "x" * (usage.STEP - 5)), EVERYTHING)
    assert (await store.usage("ann")).stored == STATE
    await store.cancel(session, sent.message.id, EVERYTHING)
    assert (await store.usage("ann")).stored > usage.STEP


async def test_a_result_that_is_repeated_or_too_late_is_not_charged_again(limited: Limited) -> None:
    store = await limited(stored=10**9)
    session = await make(store)
    sent = await say(store, session)
    await store.begin_redelivery(sent)
    large = Outcome.processed(LARGE)
    assert await store.record(sent, 1, large) is None
    assert (await store.usage("ann")).stored == STATE
    assert await store.record(sent, 2, large) is not None
    charged = (await store.usage("ann")).stored
    for attempt in (1, 2, None):
        assert await store.record(sent, attempt, large) is None
        assert await store.record(sent, attempt, large, adk=AdkTurn(None, (event(LARGE),))) is None
    assert (await store.usage("ann")).stored == charged == len("hello") + usage.STEP + STATE


async def test_only_a_large_result_needs_a_statement_to_charge_it(
    limited: Limited, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = await limited(stored=10**9)
    session = await make(store)
    run: list[str] = []
    if isinstance(store, PostgresStore):
        rows = store._rows

        async def counted(sql: str, *params: object) -> Any:
            run.append(sql)
            return await rows(sql, *params)

        monkeypatch.setattr(store, "_rows", counted)
    else:
        write = store._write

        async def counted_write(transaction: Any, *args: Any, **kwargs: Any) -> Any:
            run.append(transaction.__name__)
            return await write(transaction, *args, **kwargs)

        monkeypatch.setattr(store, "_write", counted_write)
    for outcome, postgres in ((DONE, 1), (Outcome.processed(LARGE), 2)):
        sent = await say(store, session)
        run.clear()
        await store.record(sent, 1, outcome)
        assert len(run) == (postgres if isinstance(store, PostgresStore) else 1), run


async def test_a_user_with_a_larger_quota_needs_no_second_look(
    limited: Limited, monkeypatch: pytest.MonkeyPatch
) -> None:
    named = {"ann": Quota(stored=8 * usage.STEP), "eve": Quota()}
    for store in (await limited(named, stored=usage.STEP), await limited({**named, "bob": Quota(stored=usage.STEP)})):
        for user in ("ann", "eve"):
            session = await make(store, user=user)
            await store.record(await say(store, session), 1, Outcome.processed(LARGE * 2))
            with monkeypatch.context() as patch:
                if isinstance(store, PostgresStore):
                    patch.delattr(PostgresStore, "_write")
                await say(store, session)


async def test_a_result_is_recorded_although_another_transaction_holds_the_usage_of_its_user(
    opened: Opened, database: Database
) -> None:
    if not isinstance(database, PostgresDatabase):
        pytest.skip("SQLite has one writer")
    store = await opened(patience=0.2)
    session = await make(store)
    plain, adk = await say(store, session), await say(store, session)
    other = await asyncpg.connect(database.uri)
    try:
        async with other.transaction():
            await other.execute("SELECT * FROM user_usage FOR UPDATE")
            assert await store.record(plain, 1, Outcome.processed(LARGE)) is not None
            assert await store.record(adk, 1, DONE, adk=AdkTurn(None, (event(LARGE),))) is not None
            assert (await store.usage("ann")).stored == STATE
    finally:
        await other.close()
    assert (await store.get_message(session, plain, EVERYTHING)).response == LARGE
    assert await store.record(adk, 1, DONE) is None
    assert (await store.usage("ann")).stored > 2 * usage.STEP, "a repeated call makes up for it"


async def test_a_refusal_says_what_the_user_has(limited: Limited) -> None:
    store = await limited(stored=3 * usage.STEP)
    session = await make(store)
    await store.save_artifact(key_of(session), artifact(LARGE))
    has = (await store.usage("ann")).stored
    key = AdkKey("weather", "ann", "new")
    new = NewAdkSession(new_id(), key, "default", Micros(DAY), {}, (event(LARGE * 4),))
    for attempt in (
        store.save_artifact(key_of(session), artifact(LARGE * 4)),
        store.accept(new_message(session, LARGE * 4), EVERYTHING),
        store.adk_append(key_of(session), [event(LARGE * 4)]),
        store.adk_create(new),
    ):
        with pytest.raises(StorageFull) as caught:
            await attempt
        assert (caught.value.used, caught.value.limit) == (has, 3 * usage.STEP)
        assert f"ann has {has} of " in caught.value.detail


async def test_artifacts_fill_the_storage_until_they_are_deleted(limited: Limited) -> None:
    store = await limited(stored=3 * usage.STEP)
    session = await make(store)
    for name in ("a.txt", "user:b.txt"):
        await store.save_artifact(key_of(session), artifact(LARGE, name))
    with pytest.raises(StorageFull):
        await store.save_artifact(key_of(session), artifact(LARGE))
    assert len(await store.artifact_versions(await store.get_session(session, EVERYTHING), "a.txt")) == 1
    await store.delete_artifact(key_of(session), "a.txt")
    await store.save_artifact(key_of(session), artifact(LARGE))
    await store.delete_session(session, EVERYTHING)
    left = (await store.usage("ann")).stored
    assert usage.STEP < left < 2 * usage.STEP, "artifacts of the user stay"


async def test_events_and_state_of_adk_fill_the_storage(limited: Limited) -> None:
    store = await limited(stored=3 * usage.STEP)
    session = await make(store)
    await store.adk_append(key_of(session), [event(LARGE)])
    await store.adk_append(key_of(session), [event("small", text=LARGE)])
    with pytest.raises(StorageFull):
        await store.adk_append(key_of(session), [event(LARGE)])
    with pytest.raises(StorageFull):
        await store.adk_change(key_of(session), [event(LARGE)])
    assert len((await store.adk_get(key_of(session))).events) == 2
    key = AdkKey("weather", "ann", "new")
    with pytest.raises(StorageFull):
        await store.adk_create(NewAdkSession(new_id(), key, "default", Micros(DAY), {"text": LARGE}, (event(LARGE),)))


async def test_simultaneous_artifacts_stop_at_the_limit(limited: Limited) -> None:
    stores = [await limited(stored=3 * usage.STEP) for _ in range(2)]
    sessions = [await make(stores[0]) for _ in range(4)]
    calls = [store.save_artifact(key_of(session), artifact(LARGE)) for store in stores for session in sessions]
    assert await outcomes(calls) == (2, 6)


# -- the counters ------------------------------------------------------------------------------------------------------


async def test_the_counters_are_what_a_recount_finds(limited: Limited) -> None:
    """A history of everything that changes them, by this program, and by triggers for rows of others."""
    store = await limited(stored=10**9)
    kept, deleted, expired = [await make(store) for _ in range(3)]
    for session in (kept, deleted, expired):
        sent = await store.accept(new_message(session, f"grüße {LARGE}"), EVERYTHING)
        await store.record(sent.message.id, 1, Outcome.processed('{"a": "ü"}'), [("turn.processed", "{}")])
        await store.adk_catch_up(session)
        waiting = await store.accept(new_message(session, payload='{"b": 1}'), EVERYTHING)
        await store.cancel(session, waiting.message.id, EVERYTHING)
        await store.adk_append(key_of(session), [event("hello", seen=1)])
        await store.save_artifact(key_of(session), artifact("part"))
        await store.save_artifact(key_of(session), artifact("shared", "user:b.txt"))
        await store.remember(key_of(session))
    await store.delete_artifact(key_of(kept), "a.txt")
    await store.delete_session(deleted, EVERYTHING)
    await store.purge_session(deleted)
    await store.expire(expired, (await store.get_session(expired, EVERYTHING)).last_activity)
    before = await store.usage("ann")
    assert before.sessions == 1
    # Whatever sessions have not reported is reported by the first recount.
    await store._write(_recount)
    after = await store.usage("ann")
    assert (after.sessions, after.messages) == (1, 0)
    assert 0 <= after.stored - before.stored < 2 * usage.STEP
    assert await store._write(_recount) == []
    if "sqlite" in store.uri:  # PostgreSQL spells the JSON of ADK's tables in another way
        rows = await store._read(_grown)
        assert rows == []


async def test_a_recount_corrects_what_is_wrong(limited: Limited, database: Database) -> None:
    store = await limited(sessions=1)
    session = await make(store)
    await store.accept(new_message(session, "hello"), EVERYTHING)
    await database.rows("UPDATE session SET bytes = 17, charged = 12")
    await database.rows("UPDATE user_usage SET sessions = 70, bytes = 3")
    with pytest.raises(QuotaExceeded):
        await make(store)
    assert await store._write(_recount) == ["ann"]
    assert await store.usage("ann") == Usage(1, 1, 5 + STATE)
    assert await store._write(_recount) == []


async def test_a_recount_names_users_whose_sessions_had_not_reported_their_bytes(limited: Limited) -> None:
    store = await limited()
    await say(store, await make(store))
    await make(store, user="bob")
    await store._write(_recount)
    session = await make(store, user="bob")
    assert await store._write(_recount) == []
    await store._write(_store_unseen, session)
    assert await store._write(_recount) == ["bob"]
    assert (await store.usage("bob")).stored > 4 * usage.STEP


async def test_a_session_of_an_adk_service_comes_with_its_bytes(limited: Limited) -> None:
    store = await limited()
    session = await make(store)
    await store.adk_append(key_of(session), [event("hello")])
    # As a version without these tables would leave it: ADK's row alone.
    await store._write(_only_adks_row, session)
    await store.adk_sweep(10)
    assert (await store.usage("ann")).sessions == 1
    assert (await store.usage("ann")).stored >= len(event("hello").data)


async def test_no_check_reads_a_whole_table(limited: Limited, database: Database) -> None:
    await limited()
    postgres = isinstance(database, PostgresDatabase)
    for sql in (usage._USED, usage._WAITING_IN, usage.UNFINISHED_OF_USER, usage.REPORT, usage.REPORT_OF_MESSAGE):
        if postgres:
            text = in_postgres(sql).replace("$1", "'a'")
            plan = await _plan_of_postgres(database, f"EXPLAIN {text}")
            assert "Seq Scan" not in plan, plan
        else:
            rows = await database.rows(f"EXPLAIN QUERY PLAN {in_sqlite(sql).replace('?1', chr(39) + 'a' + chr(39))}")
            plan = "\n".join(row[3] for row in rows)
            assert "SCAN" not in plan, plan


async def _plan_of_postgres(database: Database, sql: str) -> str:
    assert isinstance(database, PostgresDatabase)
    connection = await asyncpg.connect(database.uri)
    try:
        await connection.execute("SET enable_seqscan = off")
        return "\n".join(row[0] for row in await connection.fetch(sql))
    finally:
        await connection.close()


def _recount(now: Micros) -> Any:
    return usage.recount()


def _grown() -> Any:
    """Find sessions whose bytes are not those that a recount has just charged."""
    rows = yield "SELECT uuid FROM session WHERE deleted_at IS NULL AND bytes <> charged", ()
    return list(rows)


def _uncharged() -> Any:
    [row] = yield "SELECT sum(bytes - charged) FROM session", ()
    return row[0]


def _store_unseen(now: Micros, session: str) -> Any:
    """Store a message as an older version does."""
    yield (
        "INSERT INTO message (id, session, seq, caller, text, accepted_at) VALUES ('m', $1, 1, 'web', $2, 1)",
        (session, LARGE * 4),
    )


def _only_adks_row(now: Micros, session: str) -> Any:
    yield "DELETE FROM session WHERE uuid = $1", (session,)
    yield "INSERT INTO adk_note (app, user_id, adk_id) VALUES ('default', 'ann', $1)", (session,)


def _all_of_weather() -> Any:
    return AdkQuery("weather", EVERYTHING)
