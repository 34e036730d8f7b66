"""Existing databases: ADK's are adopted, and all others are rejected unchanged."""

from __future__ import annotations

import sqlite3
import warnings
from collections.abc import AsyncIterator
from contextlib import closing
from pathlib import Path

import pytest
from sqlalchemy import create_engine

from session_manager.domain.access import EVERYTHING
from session_manager.domain.adk.model import AdkKey
from session_manager.domain.errors import StartupFailure
from session_manager.store.protocol import AdkQuery
from session_manager.store.schema.upgrade import all_migrations
from session_manager.store.sql import SqlStore
from session_manager.store.sqlite.adapter import SqliteStore, threads
from tests.adk.store.made import made, texts
from tests.adk.store.real import BaseSessionService, Peers, adk_event, as_stored, get, names, same
from tests.store.databases import Database, PostgresDatabase, SqliteDatabase, new_id

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    from google.adk.sessions.database_session_service import DatabaseSessionService
    from google.adk.sessions.schemas import v0

BEFORE = all_migrations()[:1]


@pytest.fixture
def database(request: pytest.FixtureRequest, database: Database) -> Database:
    """Return a database without any tables."""
    if isinstance(database, PostgresDatabase):
        return PostgresDatabase(request.getfixturevalue("postgres_uri"))
    database.path.parent.mkdir()  # type: ignore[attr-defined]
    return database


async def fill(service: BaseSessionService) -> list[AdkKey]:
    """Create sessions of two users with state and events."""
    keys = []
    for n in range(6):
        user = f"user {n % 2}"
        session = await service.create_session(app_name="app", user_id=user, state={"n": n, "app:a": n, "user:u": n})
        await service.append_event(session, adk_event(f"event {n}", {"x": None}))
        keys.append(AdkKey("app", user, session.id))
    return keys


async def compare(service: BaseSessionService, store: SqlStore) -> None:
    theirs = (await service.list_sessions(app_name="app")).sessions
    ours = (await store.adk_list(AdkQuery("app", EVERYTHING))).sessions
    for listed, our in zip(theirs, ours, strict=True):
        same(listed, our)
        same(await get(service, our.key), await store.adk_get(our.key))


async def test_a_database_of_adk_becomes_ours(database: Database, peers: Peers) -> None:
    async with peers() as [service]:
        keys = await fill(service)
        store = database.store()
        await store.start()
        try:
            assert await store.adk_sweep(4) == (4, [])
            assert await store.adk_sweep(4) == (2, [])
            await compare(service, store)
            assert texts((await store.adk_get(keys[3])).events) == ["event 3"]
            await store.adk_append(keys[0], [as_stored(adk_event("ours"))])
            await service.append_event(await get(service, keys[0]), adk_event("theirs"))
            assert texts((await store.adk_get(keys[0])).events) == ["event 0", "ours", "theirs"]
            await store.delete_session((await store.adk_record(keys[1])).uuid, EVERYTHING)
            assert await service.get_session(**names(keys[1])) is None
            await compare(service, store)
        finally:
            await store.close()


async def test_an_open_adk_service_continues_during_the_upgrade(database: Database, peers: Peers) -> None:
    async with peers() as [service]:
        [key, *_] = await fill(service)
        session = await get(service, key)
        store = database.store()
        await store.start()
        try:
            await service.append_event(session, adk_event("after"))
            assert texts((await store.adk_get(key)).events) == ["event 0", "after"]
        finally:
            await store.close()


async def test_existing_sessions_get_adks_rows(database: Database, peers: Peers) -> None:
    old = database.store(migrations=BEFORE)
    await old.start()
    live, gone = new_id(), new_id()
    now = await old.now()
    for uuid, deleted in ((live, "NULL"), (gone, "1")):
        await database.rows(
            "INSERT INTO session (uuid, user_id, app, adk_id, class_name, ttl, created_at, last_activity, expires_at,"
            f" deleted_at) VALUES ('{uuid}', 'ann', 'app', '{uuid}', 'app', 1, {now}, {now}, {now}, {deleted})"
        )
    await old.close()
    store = database.store()
    await store.start()
    try:
        async with peers() as [service]:
            session = await get(service, AdkKey("app", "ann", live))
            assert session.last_update_time == now / 1e6
            await service.append_event(session, adk_event())
            [listed] = (await service.list_sessions(app_name="app")).sessions
            assert listed.id == live
            await compare(service, store)
        assert await store.adk_sweep(9) == (0, [])
        assert await store.get_session(live, EVERYTHING)
    finally:
        await store.close()


async def refused(database: Database, sentence: str) -> None:
    with pytest.raises(StartupFailure, match=sentence):
        await database.store().start()
    assert not await has_table(database, "message"), "our tables were left in it"


async def has_table(database: Database, name: str) -> bool:
    catalog = "pg_tables WHERE tablename" if isinstance(database, PostgresDatabase) else "sqlite_master WHERE name"
    return bool(await database.rows(f"SELECT 1 FROM {catalog} = '{name}'"))


def sync_address(database: Database) -> str:
    if isinstance(database, PostgresDatabase):
        return database.uri.replace("postgresql:", "postgresql+psycopg:")
    return f"sqlite:///{database.path}"  # type: ignore[attr-defined]


async def test_the_oldest_layout_is_rejected(database: Database) -> None:
    engine = create_engine(sync_address(database))
    v0.Base.metadata.create_all(engine)
    engine.dispose()
    await refused(database, "adk migrate session")


async def test_foreign_tables_with_adks_names_are_rejected(database: Database) -> None:
    await database.rows("CREATE TABLE sessions (id TEXT, session_data TEXT)")
    await refused(database, r"^The database has a table 'sessions' that is not one of ADK's\.")


async def test_an_unknown_version_of_adks_layout_is_rejected(database: Database, peers: Peers) -> None:
    if not isinstance(database, PostgresDatabase):
        return
    async with peers() as [service]:
        await fill(service)
    await database.rows("UPDATE adk_internal_metadata SET value = '2'")
    await refused(database, "schema version 2")


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "sessions.db"


async def test_a_file_of_the_other_service_is_rejected(file: Path) -> None:
    service = DatabaseSessionService(f"sqlite+aiosqlite:///{file}")
    await fill(service)
    await service.close()
    with pytest.raises(StartupFailure, match=r"^The database file was written by ADK's DatabaseSessionService"):
        await SqliteStore(file).start()
    with closing(sqlite3.connect(file)) as other:
        tables = other.execute("SELECT count(*) FROM sqlite_master WHERE name = 'message'").fetchone()
    assert tables == (0,)


KEY = AdkKey("app", "ada", "one")


@pytest.fixture
async def visitor(file: Path) -> AsyncIterator[DatabaseSessionService]:
    """Open our file with the service that is not for files."""
    store = SqliteStore(file)
    await store.start()
    await made(store, KEY)
    await store.close()
    service = DatabaseSessionService(f"sqlite+aiosqlite:///{file}")
    assert await service.get_session(**names(KEY)) is not None
    yield service
    await service.close()


async def test_our_file_works_after_the_other_service_only_read_it(file: Path, visitor: DatabaseSessionService) -> None:
    store = SqliteStore(file)
    await store.start()
    assert (await store.adk_get(KEY)).key == KEY
    await store.close()


async def test_our_file_is_rejected_after_the_other_service_wrote_to_it(
    file: Path, visitor: DatabaseSessionService
) -> None:
    await visitor.create_session(app_name=KEY.app, user_id=KEY.user_id)
    with pytest.raises(StartupFailure, match=r"DatabaseSessionService has written into this database file"):
        await SqliteStore(file).start()


TABLES = "('app_states', 'user_states', 'sessions', 'events', 'adk_internal_metadata')"
SHAPE = {
    "sqlite": f"SELECT name, sql FROM sqlite_master WHERE type = 'table' AND name IN {TABLES}",
    "postgresql": f"""
        SELECT table_name || '.' || column_name, concat(data_type, character_maximum_length, is_nullable)
        FROM information_schema.columns WHERE table_schema = 'public' AND table_name IN {TABLES}
        UNION ALL SELECT conname, pg_get_constraintdef(oid)
        FROM pg_constraint WHERE conrelid::regclass::text IN {TABLES} AND conname NOT LIKE 'session_manager%'
        UNION ALL SELECT indexname, indexdef FROM pg_indexes WHERE tablename IN {TABLES}
            AND indexname NOT LIKE 'session_manager%'
    """,
}


async def test_the_tables_are_exactly_adks(
    request: pytest.FixtureRequest, database: Database, peers: Peers, tmp_path: Path
) -> None:
    """All columns, keys and indexes are as a real service creates them in an empty database."""
    store = database.store()
    await store.start()
    await store.close()
    theirs: Database
    if isinstance(database, PostgresDatabase):
        theirs = PostgresDatabase(request.getfixturevalue("postgres").create_database(f"theirs_{new_id()}"))
    else:
        theirs = SqliteDatabase(tmp_path / "theirs.db", threads)
    async with Peers(theirs, peers.driver)() as [service]:
        await service.create_session(app_name="a", user_id="u")
    engine = "postgresql" if isinstance(database, PostgresDatabase) else "sqlite"
    shapes = [await each.rows(SHAPE[engine]) for each in (database, theirs)]
    ours, expected = ({name: str(shape).split() for name, shape in rows} for rows in shapes)
    assert ours == expected
