"""Merges add whole conversations, change no existing row, and only read the source."""

from __future__ import annotations

import hashlib
import shutil
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest
from google.adk.sessions.database_session_service import DatabaseSessionService
from google.adk.sessions.sqlite_session_service import SqliteSessionService

from session_manager.databases.merging import DatabaseMerger, Merged, Merger
from session_manager.databases.opening import opened
from session_manager.domain.access import EVERYTHING
from session_manager.domain.errors import StartupFailure
from session_manager.domain.session import Status
from session_manager.store.postgres.adapter import PostgresStore
from session_manager.store.protocol import SessionQuery
from tests.databases.filled import APP, USER, read
from tests.store.databases import make, say
from tests.store.databases import opened as running

ALL = SessionQuery(EVERYTHING, cold=frozenset(Status))
ROOT = Path(__file__).parents[2]


async def merge(source: Path | str, target: Path | str, *, dry_run: bool = False) -> Merged:
    async with opened(source, read_only=True) as old, opened(target, read_only=False, if_missing="refuse") as new:
        return await Merger(old, new).merge(dry_run=dry_run)


@pytest.fixture
async def target(tmp_path: Path) -> Path:
    """Create a target with its own session."""
    path = tmp_path / "target.db"
    async with running(path) as store:
        await say(store, await make(store, user="carl"), "here first")
    return path


def dump(path: Path) -> list[str]:
    with closing(sqlite3.connect(path)) as connection:
        return list(connection.iterdump())


async def test_everything_is_merged_once(source: Path, target: Path):
    before, there = hashlib.sha256(source.read_bytes()).digest(), dump(target)
    planned = await merge(source, target, dry_run=True)
    assert dump(target) == there
    merged = await merge(source, target)
    assert (merged.rows, merged.conflicts) == (planned.rows, [])
    assert (merged.rows["message"], merged.rows["session_event"], merged.rows["events"]) == (8, 6, 10)
    assert (merged.rows["session"], merged.deleted) == (2, 1)
    assert {"artifact", "memory", "app_states", "user_states"} <= set(merged.rows)
    assert [
        line for line in there if line not in dump(target) and "INSERT" in line and "sqlite_sequence" not in line
    ] == []
    again = await merge(source, target)
    assert (again.rows, again.conflicts) == ({}, [])
    assert again.same > 4
    assert hashlib.sha256(source.read_bytes()).digest() == before
    expected = await read(SqliteSessionService(str(source)))
    assert await read(SqliteSessionService(str(target))) == expected


async def test_a_difference_is_a_conflict_and_stays(source: Path, target: Path):
    await merge(source, target)
    async with running(target) as store:
        [one] = [session for session in (await store.list_sessions(ALL)).sessions if session.user_id == "bob"]
        await say(store, one.uuid, "only here")
    there = dump(target)
    merged = await merge(source, target)
    assert [(conflict.table, conflict.key) for conflict in merged.conflicts] == [("session", (one.uuid,))]
    assert "differ" in str(merged.conflicts[0])
    assert dump(target) == there


async def test_the_same_name_of_another_session_is_a_conflict(source: Path, tmp_path: Path):
    """ADK has created different sessions with the same key in both databases."""
    other = tmp_path / "other.db"
    async with running(other):
        pass
    service = SqliteSessionService(str(other))
    await service.create_session(app_name=APP, user_id=USER, session_id=f"of {USER}", state={"mine": 1})
    there = dump(other)
    merged = await merge(source, other)
    assert ("sessions", (APP, USER, f"of {USER}")) in {(each.table, each.key) for each in merged.conflicts}
    kept = await service.get_session(app_name=APP, user_id=USER, session_id=f"of {USER}")
    assert kept is not None
    assert kept.state["mine"] == 1
    assert kept.events == []
    assert len(dump(other)) > len(there)


async def test_a_conversation_with_a_row_that_does_not_fit_is_not_merged(source: Path, target: Path):
    """The message's id exists in the target, so its session is not merged either."""
    with closing(sqlite3.connect(source)) as connection:
        [taken, session] = connection.execute("SELECT id, session FROM message ORDER BY id LIMIT 1").fetchone()
    with closing(sqlite3.connect(target)) as connection:
        connection.execute("UPDATE message SET id = ?", (taken,))
        connection.commit()
    merged = await merge(source, target)
    [conflict] = merged.conflicts
    assert (conflict.table, conflict.key) == ("session", (session,))
    with closing(sqlite3.connect(target)) as connection:
        assert connection.execute("SELECT count(*) FROM session WHERE uuid = ?", (session,)).fetchone() == (0,)
        assert connection.execute("SELECT count(*) FROM session_event WHERE session = ?", (session,)).fetchone() == (0,)


async def test_into_postgresql_and_from_it(source: Path, postgres_uri: str, tmp_path: Path):
    store = PostgresStore(postgres_uri, 1)
    await store.start()
    await say(store, await make(store, user="carl"), "here first")
    merged = await merge(source, postgres_uri)
    assert (merged.conflicts, merged.rows["message"]) == ([], 8)
    assert (await merge(source, postgres_uri)).rows == {}
    service = DatabaseSessionService(postgres_uri.replace("postgresql:", "postgresql+asyncpg:"))
    assert len(await read(service)) == 2
    await service.close()
    await store.close()
    back = tmp_path / "back.db"
    async with running(back):
        pass
    merged = await merge(postgres_uri, back)
    assert (merged.conflicts, merged.rows["session"]) == ([], 3)


async def test_files_that_are_not_databases(source: Path, tmp_path: Path):
    with pytest.raises(StartupFailure, match="does not exist"):
        await merge(source, tmp_path / "new.db")
    assert not (tmp_path / "new.db").exists()
    (tmp_path / "empty.db").touch()
    with pytest.raises(StartupFailure, match="not a database of this program"):
        await merge(source, tmp_path / "empty.db")
    with pytest.raises(StartupFailure, match="does not exist"):
        await merge(tmp_path / "none.db", source)


def test_for_programs_and_as_a_script(tmp_path: Path, source: Path, target: Path):
    copy = shutil.copy(source, tmp_path / "copy.db")
    planned = DatabaseMerger(target).merge_databases(source, copy, dry_run=True)
    assert planned.rows["session"] == 4
    merged = DatabaseMerger(str(target)).merge_databases(source, copy)
    assert (merged.rows["session"], merged.conflicts) == (2, [])
    command: list[str | Path] = [sys.executable, ROOT / "scripts" / "db_merge.py", target, source]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.endswith("already existed\n")
    done = subprocess.run([*command[:3], tmp_path / "none.db"], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (1, "")
    assert "does not exist" in done.stderr


async def test_sources_of_two_machines(tmp_path: Path):
    one, two, both = (tmp_path / f"{name}.db" for name in ("one", "two", "both"))
    for path in (one, two):
        async with running(path) as store:
            await say(store, await make(store, user=path.stem))
    async with running(both):
        pass
    for path in (one, two):
        assert (await merge(path, both)).rows["message"] == 1
    async with running(both) as store:
        found = (await store.list_sessions(ALL)).sessions
        assert {session.user_id for session in found} == {"one", "two"}
