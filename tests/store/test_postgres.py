"""Promises of the PostgreSQL adapter only: connections and their loss, and one statement per step of a turn."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import asyncpg
import pytest

from session_manager.domain.access import EVERYTHING
from session_manager.domain.errors import (
    InvalidInput,
    OutcomeUnknown,
    SessionManagerError,
    StartupFailure,
    StoreUnavailable,
)
from session_manager.domain.message import Accepted, Outcome
from session_manager.domain.times import Micros
from session_manager.store.postgres.adapter import PostgresStore
from session_manager.store.postgres.errors import translated
from tests.servers.postgres import PASSWORD, PostgresServer, postgres_server
from tests.store.databases import DONE, make, new_message, say
from tests.waiting import until


@pytest.fixture
async def store(postgres_uri: str) -> AsyncIterator[PostgresStore]:
    store = PostgresStore(postgres_uri, 2, 5.0)
    await store.start()
    yield store
    await store.close()


@asynccontextmanager
async def connected(uri: str) -> AsyncIterator[asyncpg.Connection]:
    connection = await asyncpg.connect(uri)
    try:
        yield connection
    finally:
        await connection.close()


async def waiting(connection: asyncpg.Connection) -> list[int]:
    """Return the sessions that wait for a lock in this database."""
    await connection.execute("SELECT pg_stat_clear_snapshot()")
    where = "wait_event_type = 'Lock' AND datname = current_database()"
    return [row[0] for row in await connection.fetch(f"SELECT pid FROM pg_stat_activity WHERE {where}")]


def fetch(sql: str):
    """Run one statement as a transaction."""

    def transaction():
        return (yield sql, ())

    return transaction


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("synchronous_commit", "on"),
        ("default_transaction_isolation", "read committed"),
        ("lock_timeout", "5s"),
        ("application_name", "session-manager"),
    ],
)
async def test_commits_are_fsynced(store: PostgresStore, setting: str, value: str) -> None:
    [[shown]] = await store._read(fetch(f"SHOW {setting}"))
    assert shown == value


async def test_a_server_that_does_not_wait_for_the_disk_is_made_to(postgres: PostgresServer, postgres_uri: str) -> None:
    name = postgres_uri.rpartition("/")[2]
    postgres.execute(f"ALTER DATABASE \"{name}\" SET synchronous_commit = 'off'")
    store = PostgresStore(postgres_uri, 1)
    await store.start()
    [[shown]] = await store._read(fetch("SHOW synchronous_commit"))
    assert shown == "on"
    postgres.execute(f"ALTER DATABASE \"{name}\" SET synchronous_commit = 'remote_apply'")
    again = PostgresStore(postgres_uri, 1)
    await again.start()
    [[shown]] = await again._read(fetch("SHOW synchronous_commit"))
    assert shown == "remote_apply", "a stronger setting is kept"
    await again.close()
    await store.close()


async def test_a_turn_is_two_statements(store: PostgresStore, monkeypatch: pytest.MonkeyPatch) -> None:
    session = await make(store)
    sent: list[str] = []
    await store.accept(new_message(session), EVERYTHING)  # prepares the statement

    async def log(record: asyncpg.connection.LoggedQuery) -> None:
        sent.append(record.query)

    assert store._pool is not None
    async with store._pool.acquire() as one, store._pool.acquire() as two:
        one.add_query_logger(log)
        two.add_query_logger(log)
    message = await say(store, session)
    await store.record(message, 1, DONE, [("reply", "{}")])
    assert len(sent) == 2
    assert "INSERT INTO message" in sent[0]
    assert "INSERT INTO session_event" in sent[1]


async def test_a_held_lock_is_waited_for_no_longer_than_the_patience(postgres_uri: str) -> None:
    store = PostgresStore(postgres_uri, 4, patience=0.2)
    await store.start()
    session = await make(store)
    message = await say(store, session)
    async with connected(postgres_uri) as other, other.transaction():
        await other.execute("SELECT FROM session FOR UPDATE")
        for call in (
            store.accept(new_message(session), EVERYTHING),
            store.record(message, 1, DONE),
            store.touch_session(session, EVERYTHING),
            store.delete_session(session, EVERYTHING),
        ):
            with pytest.raises(StoreUnavailable):
                await call
        assert (await store.get_session(session, EVERYTHING)).uuid == session
    assert [one.id for one in await store.list_messages(session, EVERYTHING, 10)] == [message]
    assert await store.record(message, 1, DONE) == []
    await store.close()


async def test_no_free_connection(postgres_uri: str) -> None:
    store = PostgresStore(postgres_uri, 1, patience=0.2)
    await store.start()
    assert store._pool is not None
    async with store._pool.acquire():
        with pytest.raises(StoreUnavailable):
            await store.ping()
        waiting = asyncio.ensure_future(make(store))
        await asyncio.sleep(0)
    assert await waiting
    await store.close()


async def test_lost_connections_are_replaced(store: PostgresStore, postgres_uri: str) -> None:
    session = await make(store)
    async with connected(postgres_uri) as other:
        kill = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'session-manager'"
        name = postgres_uri.rpartition("/")[2]
        await other.execute(f"{kill} AND datname = '{name}'")

    async def works() -> Accepted | None:
        try:
            return await store.accept(new_message(session), EVERYTHING)
        except StoreUnavailable:
            return None

    assert (await until(works)).message.session == session


async def test_a_connection_cut_during_a_statement(store: PostgresStore, postgres_uri: str) -> None:
    session = await make(store)
    async with connected(postgres_uri) as other, other.transaction():
        await other.execute("SELECT FROM session FOR UPDATE")
        accepting = asyncio.ensure_future(store.accept(new_message(session), EVERYTHING))
        [pid] = await until(lambda: waiting(other))
        await other.execute("SELECT pg_terminate_backend($1)", pid)
    accepted = await accepting
    assert [each.id for each in await store.list_messages(session, EVERYTHING, 10)] == [accepted.message.id]


async def test_a_deadlock_is_tried_again(store: PostgresStore, postgres_uri: str) -> None:
    first, second = await make(store), await make(store)
    touch = "UPDATE session SET name = 'x' WHERE uuid = $1"
    tries = 0

    def crossing(now: Micros, one: str, two: str):
        nonlocal tries
        tries += 1
        yield touch, (one,)
        yield "SELECT pg_advisory_xact_lock_shared(1)", ()
        yield touch, (two,)

    async with connected(postgres_uri) as other:
        async with other.transaction():
            await other.execute("SELECT pg_advisory_xact_lock(1)")
            both = [store._write(crossing, first, second), store._write(crossing, second, first)]
            crossed = asyncio.gather(*both)

            async def both_wait() -> bool:
                return len(await waiting(other)) == 2

            await until(both_wait)
        await crossed
    assert tries >= 3, "no transaction was interrupted"


async def test_text_that_cannot_be_stored(store: PostgresStore) -> None:
    session = await make(store)
    message = await say(store, session)
    for text in ("a \x00 byte", "half a \ud800 pair"):
        with pytest.raises(InvalidInput):
            await store.accept(new_message(session, text), EVERYTHING)
        with pytest.raises(InvalidInput):
            await store.rename_session(session, text, EVERYTHING)
        with pytest.raises(InvalidInput):
            await store.record(message, 1, Outcome.processed(text))
    assert await store.record(message, 1, DONE) == []


async def test_a_cancelled_caller_gives_its_connection_back(postgres_uri: str) -> None:
    store = PostgresStore(postgres_uri, 1, patience=5.0)
    await store.start()
    session = await make(store)
    async with connected(postgres_uri) as other, other.transaction():
        await other.execute("SELECT FROM session FOR UPDATE")
        accepting = asyncio.ensure_future(store.accept(new_message(session), EVERYTHING))
        await until(lambda: waiting(other))
        accepting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await accepting
        await store.ping()
    assert (await store.accept(new_message(session), EVERYTHING)).message.seq == 1
    await store.close()


async def test_errors_that_no_retry_fixes(postgres: PostgresServer) -> None:
    await asyncio.to_thread(postgres.execute, "DROP ROLE IF EXISTS stranger")
    await asyncio.to_thread(postgres.execute, "CREATE ROLE stranger LOGIN PASSWORD 'pw'")
    uri = postgres.database_uri("postgres")
    for wrong, words in {
        uri.replace(PASSWORD, "wrong"): "password",
        uri.replace("postgres:", "nobody:", 1): "SESSION_DB_URI",
        postgres.database_uri("missing"): "does not exist",
        f"{uri}?sslmode=require": "TLS",
        uri.replace(f":{postgres.port}", ":port"): "not a valid",
        uri.replace(f"postgres:{PASSWORD}", "stranger:pw"): "may not create",
    }.items():
        store = PostgresStore(wrong, 1, 5.0)
        with pytest.raises(StartupFailure) as caught:
            await store.start()
        assert words in caught.value.detail
        assert_silent(caught.value, postgres)
        with pytest.raises(StoreUnavailable):
            await store.ping()


async def test_a_server_that_is_away_and_comes_back() -> None:
    with postgres_server() as server:
        store = PostgresStore(server.uri, 2, 1.0)
        await store.start()
        session = await make(store)
        server.stop()
        for call in (
            store.ping(),
            store.accept(new_message(session), EVERYTHING),
            store.get_session(session, EVERYTHING),
            store.now(),
        ):
            with pytest.raises(StoreUnavailable) as caught:
                await call
            assert_silent(caught.value, server)
        late = PostgresStore(server.uri, 2, 1.0)
        with pytest.raises(StoreUnavailable) as caught:
            await late.start()
        assert_silent(caught.value, server)
        server.start()
        await late.start()
        assert (await late.get_session(session, EVERYTHING)).uuid == session
        assert (await store.accept(new_message(session), EVERYTHING)).message.seq == 1
        await late.close()
        await store.close()


def assert_silent(error: SessionManagerError, server: PostgresServer) -> None:
    for secret in (PASSWORD, "wrong", "127.0.0.1", str(server.port), "SELECT", "UPDATE"):
        assert secret not in error.detail


@pytest.mark.parametrize("key", [None, "once"])
@pytest.mark.parametrize("committed", [True, False])
async def test_an_accept_whose_connection_breaks_is_accepted_once(
    store: PostgresStore, monkeypatch: pytest.MonkeyPatch, committed: bool, key: str | None
) -> None:
    session = await make(store)
    before = await say(store, session, "before")
    fetch_really = asyncpg.Connection.fetch
    broken: list[str] = []

    async def fetch_and_break(connection, sql, *params, **options):
        if "INSERT INTO message" not in sql or broken:
            return await fetch_really(connection, sql, *params, **options)
        broken.append(sql)
        if committed:
            await fetch_really(connection, sql, *params, **options)
        raise asyncpg.ConnectionDoesNotExistError("connection was closed in the middle of operation")

    monkeypatch.setattr(asyncpg.Connection, "fetch", fetch_and_break)
    new = new_message(session, "in doubt", idempotency_key=key, body_hash=key)
    accepted = await store.accept(new, EVERYTHING)
    assert broken
    assert (accepted.message.id, accepted.message.seq, accepted.repeated) == (new.id, 2, False)
    assert [each.id for each in await store.list_messages(session, EVERYTHING, 10)] == [before, new.id]


@pytest.mark.parametrize("committed", [True, False])
async def test_a_change_whose_commit_is_cut_off_is_reported_as_unknown(
    store: PostgresStore, monkeypatch: pytest.MonkeyPatch, committed: bool
) -> None:
    session = await make(store)
    commit_really = vars(asyncpg.transaction.Transaction)["_Transaction__commit"]

    async def commit_and_break(transaction):
        if committed:
            await commit_really(transaction)
        else:
            await transaction._connection.execute("ROLLBACK")
        raise asyncpg.ConnectionDoesNotExistError("connection was closed in the middle of operation")

    with monkeypatch.context() as broken:
        broken.setattr(asyncpg.transaction.Transaction, "_Transaction__commit", commit_and_break)
        with pytest.raises(OutcomeUnknown):
            await store.rename_session(session, "new", EVERYTHING)
    assert (await store.get_session(session, EVERYTHING)).name == ("new" if committed else None)


async def test_an_accept_whose_outcome_stays_unknown(postgres_uri: str, monkeypatch: pytest.MonkeyPatch) -> None:
    store = PostgresStore(postgres_uri, 1, patience=0.1)
    await store.start()
    session = await make(store)

    async def break_always(connection, sql, *params, **options):
        raise ConnectionResetError

    monkeypatch.setattr(asyncpg.Connection, "fetch", break_always)
    with pytest.raises(OutcomeUnknown):
        await store.accept(new_message(session), EVERYTHING)
    await store.close()


def test_a_connection_that_ended_while_idle_is_an_outage():
    error = asyncpg.InternalClientError("cannot switch to state 12; another operation (2) is in progress")
    assert isinstance(translated(error), StoreUnavailable)
