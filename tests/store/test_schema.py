"""The schema grows by numbered migrations, each applied once, and an older version still works."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import asyncpg
import pytest

from session_manager.domain.access import EVERYTHING
from session_manager.domain.errors import StartupFailure, StoreUnavailable
from session_manager.store.postgres.adapter import PostgresStore
from session_manager.store.schema.upgrade import Migration, all_migrations
from tests.servers.postgres import PASSWORD, PostgresServer
from tests.store.databases import Database, Opened, PostgresDatabase, make, say

NOW = all_migrations()
ADDITIVE = Migration(
    len(NOW) + 1,
    NOW[-1].readable_by,
    """
    -- A semicolon; in a comment.
    CREATE TABLE extra (word {key} NOT NULL);
    INSERT INTO extra VALUES ('it; holds');
    """,
)
BREAKING = Migration(len(NOW) + 2, len(NOW) + 2, "DROP TABLE session_event;\n")
BROKEN = Migration(len(NOW) + 1, 1, "CREATE TABLE extra (word {key} NOT NULL);\nCREATE TABLE session (again {int});\n")


@pytest.fixture
def database(request: pytest.FixtureRequest, database: Database) -> Database:
    """Return a database of each engine without any tables."""
    if isinstance(database, PostgresDatabase):
        return PostgresDatabase(request.getfixturevalue("postgres_uri"))
    return database


async def versions(database: Database) -> list[tuple]:
    return await database.rows("SELECT version, readable_by FROM session_manager_schema ORDER BY version")


def expected(migrations: Sequence[Migration]) -> list[tuple[int, int]]:
    return [(migration.version, migration.readable_by) for migration in migrations]


def test_migrations_are_numbered_without_gaps() -> None:
    assert [migration.version for migration in NOW] == list(range(1, len(NOW) + 1))
    assert all(1 <= migration.readable_by <= migration.version for migration in NOW)
    assert sorted(NOW, key=lambda migration: migration.readable_by) == list(NOW)


def test_statements_are_split() -> None:
    statements = ADDITIVE.statements({"key": "TEXT"})
    assert statements == ["CREATE TABLE extra (word TEXT NOT NULL)", "INSERT INTO extra VALUES ('it; holds')"]


async def test_a_new_database_gets_the_schema(opened: Opened) -> None:
    await opened()
    assert await versions(opened.database) == expected(NOW)
    store = await opened()
    assert await versions(opened.database) == expected(NOW), "once"
    await say(store, await make(store))


async def test_an_older_database_is_upgraded(opened: Opened) -> None:
    old = await opened(migrations=NOW)
    session = await make(old, name="kept")
    new = await opened(migrations=[*NOW, ADDITIVE])
    assert await versions(opened.database) == expected([*NOW, ADDITIVE])
    assert await opened.database.rows("SELECT word FROM extra") == [("it; holds",)]
    assert (await new.get_session(session, EVERYTHING)).name == "kept"
    assert await say(old, session), "the older version continues beside it"


async def test_a_rollback_opens_a_database_with_additive_changes(opened: Opened) -> None:
    new = await opened(migrations=[*NOW, ADDITIVE])
    session = await make(new)
    await new.close()
    old = await opened(migrations=NOW)
    await say(old, session)
    assert await versions(opened.database) == expected([*NOW, ADDITIVE])


async def test_a_database_of_a_version_too_new_is_left_alone(opened: Opened) -> None:
    await opened(migrations=[*NOW, ADDITIVE, BREAKING])
    with pytest.raises(StartupFailure, match=rf"^The database has schema version {len(NOW) + 2}; .* newer program\.$"):
        await opened.database.store(migrations=NOW).start()
    with pytest.raises(StartupFailure):
        await opened.database.store(migrations=[*NOW, ADDITIVE]).start()
    assert await versions(opened.database) == expected([*NOW, ADDITIVE, BREAKING])


async def test_a_migration_that_fails_leaves_nothing(opened: Opened) -> None:
    await opened(migrations=NOW)
    failing = opened.database.store(migrations=[*NOW, BROKEN])
    with pytest.raises(Exception, match="already exists"):
        await failing.start()
    with pytest.raises(StoreUnavailable):
        await failing.ping()
    assert await versions(opened.database) == expected(NOW)
    await opened(migrations=[*NOW, ADDITIVE])


async def test_many_front_doors_start_at_once(opened: Opened) -> None:
    stores = await asyncio.gather(*(opened(migrations=[*NOW, ADDITIVE]) for _ in range(6)))
    assert await versions(opened.database) == expected([*NOW, ADDITIVE])
    assert await opened.database.rows("SELECT count(*) FROM extra") == [(1,)]
    session = await make(stores[0])
    await asyncio.gather(*(say(store, session) for store in stores))


async def test_a_user_without_the_right_to_create_may_use_a_current_schema(
    postgres: PostgresServer, postgres_uri: str
) -> None:
    owner = PostgresStore(postgres_uri, 1)
    await owner.start()
    connection = await asyncpg.connect(postgres_uri)
    role = f"app_{postgres_uri.rpartition('_')[2]}"
    await connection.execute(f"CREATE ROLE \"{role}\" LOGIN PASSWORD 'pw'")
    await connection.execute(f'GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO "{role}"')
    store = PostgresStore(postgres_uri.replace(f"postgres:{PASSWORD}", f"{role}:pw"), 1)
    await store.start()
    await say(store, await make(store))
    await store.close()
    await owner.close()
    await connection.execute(f'DROP OWNED BY "{role}"; DROP ROLE "{role}"')
    await connection.close()
