"""Copies between engines are complete, half a copy is never used, and the source is only read."""

from __future__ import annotations

import asyncio
import hashlib
import os
import shutil
import signal
import sqlite3
import sys
from contextlib import closing
from pathlib import Path
from typing import Any

import asyncpg
import pytest
from google.adk.sessions.database_session_service import DatabaseSessionService
from google.adk.sessions.sqlite_session_service import SqliteSessionService

from session_manager.databases import copying
from session_manager.databases.code_schema import table_names
from session_manager.databases.copying import Copied, Copier
from session_manager.databases.opening import opened
from session_manager.domain.errors import Conflict, StartupFailure
from session_manager.store.postgres.adapter import PostgresStore
from tests.databases.filled import fill, read
from tests.store.databases import make, say
from tests.store.databases import opened as running
from tests.store.test_file_systems import bindfs, needs_fuse
from tests.waiting import until

# The connection of a killed process ends a moment later.
ALONE = "SELECT 1 WHERE (SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()) = 1"


async def copy(source: Path | str, target: Path | str, progress: Any = None) -> Copied:
    async with opened(source, read_only=True) as old, opened(target, read_only=False) as new:
        return await Copier(old, new, progress or (lambda *_: None)).copy()


async def rows(uri: str, sql: str) -> list[tuple[Any, ...]]:
    connection = await asyncpg.connect(uri)
    try:
        return [tuple(row) for row in await connection.fetch(sql)]
    finally:
        await connection.close()


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def counts(path: Path) -> dict[str, int]:
    """Return the number of rows by table, without empty rows of shared state."""
    with closing(sqlite3.connect(path)) as connection:
        found = {name: connection.execute(f"SELECT count(*) FROM {name}").fetchone()[0] for name in table_names()}
        for name in ("app_states", "user_states"):
            found[name] -= connection.execute(f"SELECT count(*) FROM {name} WHERE state = '{{}}'").fetchone()[0]
    return found


def dump(path: Path) -> list[str]:
    with closing(sqlite3.connect(path)) as connection:
        return [line for line in connection.iterdump() if '"session_manager_schema"' not in line]


async def adk_reads(uri: str) -> list[dict[str, Any]]:
    service = DatabaseSessionService(uri.replace("postgresql:", "postgresql+asyncpg:"))
    try:
        return await read(service)
    finally:
        await service.close()


async def test_there_and_back_again(source: Path, postgres_uri: str, tmp_path: Path):
    before, held = digest(source), counts(source)
    assert min(held[name] for name in table_names() if name not in {"adk_note"}) > 0
    there = await copy(source, postgres_uri)
    assert digest(source) == before
    assert {name: there.rows[name] for name in held} == held
    back = await copy(postgres_uri, tmp_path / "back.db")
    assert (back.rows, back.hashes) == (there.rows, there.hashes)
    again = await copy(tmp_path / "back.db", tmp_path / "again.db")
    assert again.rows == back.rows
    assert dump(tmp_path / "again.db") == dump(tmp_path / "back.db")
    async with running(tmp_path / "again.db") as store:
        await say(store, await make(store))


async def test_adk_reads_the_copy_as_it_read_the_source(source: Path, postgres_uri: str, tmp_path: Path):
    expected = await read(SqliteSessionService(str(source)))
    assert sum(len(session["events"]) for session in expected) == 10
    await copy(source, postgres_uri)
    found = await adk_reads(postgres_uri)
    for session in expected:
        session["state"].pop("far", None)
    for session in found:
        session["state"].pop("far", None)  # PostgreSQL writes 1e300 as an integer
    assert found == expected
    await copy(postgres_uri, tmp_path / "back.db")
    back = await read(SqliteSessionService(str(tmp_path / "back.db")))
    for session in back:
        session["state"].pop("far", None)
    assert back == expected


async def test_adk_continues_in_the_copy(source: Path, postgres_uri: str):
    """ADK's service for servers needs rows of shared state, which SQLite does not have."""
    await copy(source, postgres_uri)
    service = DatabaseSessionService(postgres_uri.replace("postgresql:", "postgresql+asyncpg:"))
    session = await service.get_session(app_name="other", user_id="bob", session_id="of bob")
    assert session is not None
    await service.append_event(session, session.events[0].model_copy(update={"id": "new", "timestamp": 2e9}))
    await service.close()
    store = PostgresStore(postgres_uri, 1)
    await store.start()
    await say(store, await make(store))
    await store.close()


async def test_a_target_with_data_is_rejected(source: Path, postgres_uri: str, tmp_path: Path):
    await copy(source, postgres_uri)
    for target in (postgres_uri, source):
        with pytest.raises(StartupFailure, match=r"has data already|same database"):
            await copy(tmp_path / "other.db" if target == source else source, target)
        if target == postgres_uri:
            await fill(tmp_path / "other.db")
    with pytest.raises(StartupFailure, match="same database"):
        await copy(source, source)


async def test_an_empty_database_in_use_is_a_target(source: Path, postgres_uri: str):
    """The first start of a front door leaves no rows that would prevent a copy."""
    store = PostgresStore(postgres_uri, 1)
    await store.start()
    await store.close()
    assert (await copy(source, postgres_uri)).rows == counts(source)


async def test_invalid_sources(tmp_path: Path, postgres_uri: str):
    with pytest.raises(StartupFailure, match="does not exist"):
        await copy(tmp_path / "none.db", postgres_uri)
    (tmp_path / "empty.db").touch()
    with pytest.raises(StartupFailure, match="not a database of this program"):
        await copy(tmp_path / "empty.db", postgres_uri)
    (tmp_path / "letter.db").write_text("Dear aunt, " * 200)
    with pytest.raises(StartupFailure, match="cannot be used"):
        await copy(tmp_path / "letter.db", postgres_uri)
    assert not (tmp_path / "none.db").exists()


async def test_a_dry_run_writes_nothing(source: Path, postgres_uri: str, tmp_path: Path):
    for target in (postgres_uri, tmp_path / "target.db"):
        async with opened(source, read_only=True) as old, opened(target, read_only=False) as new:
            seen = await Copier(old, new).look()
            assert await new.tables() == {}
        assert (seen.rows, seen.misfits) == (counts(source), [])


async def test_rows_that_do_not_fit_are_reported_and_stop_a_copy(source: Path, postgres_uri: str):
    with closing(sqlite3.connect(source)) as connection:
        for number, (state, name) in enumerate(
            [('{"a": "\\u0000"}', "a"), ("{", "b"), ('{"a": NaN}', "c"), ('{"a": "\\ud800"}', "d"), ("{}", "e" * 129)]
        ):
            connection.execute("INSERT INTO sessions VALUES ('x', 'y', ?, ?, ?, ?)", (name, state, number, number))
        connection.commit()
    async with opened(source, read_only=True) as old, opened(postgres_uri, read_only=False) as new:
        seen = await Copier(old, new).look()
    assert [misfit.partition("state: ")[2].split(" (")[0] or misfit.rpartition(": ")[2] for misfit in seen.misfits] == [
        "contains a NUL",
        "is not valid JSON for PostgreSQL",
        "is not valid JSON for PostgreSQL",
        "is not valid JSON for PostgreSQL",
        "longer than 128 characters",
    ]
    with pytest.raises(StartupFailure, match=r"sessions \(x, y, a\): state: contains a NUL"):
        await copy(source, postgres_uri)


async def test_no_front_door_serves_half_a_copy(source: Path, postgres_uri: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(copying, "BATCH_ROWS", 2)
    done = 0

    def stop(table: str, rows: int, total: int) -> None:
        nonlocal done
        done += 1
        if done == 5:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        await copy(source, postgres_uri, stop)
    with pytest.raises(StartupFailure, match="unfinished copy"):
        await PostgresStore(postgres_uri, 1).start()
    with pytest.raises(StartupFailure, match="unfinished copy"):
        await copy(postgres_uri, source.with_name("third.db"))
    with pytest.raises(StartupFailure, match="unfinished copy from elsewhere"):
        other = source.with_name("fourth.db")
        await fill(other)
        await copy(other, postgres_uri)
    copied = await copy(source, postgres_uri)
    assert copied.resumed
    assert copied.rows == counts(source)


async def test_a_change_of_the_source_is_detected(source: Path, postgres_uri: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(copying, "BATCH_ROWS", 2)
    async with running(source) as store:
        session = await make(store)
        changed = False

        def change(table: str, rows: int, total: int) -> None:
            nonlocal changed
            if table == "message" and rows and not changed:
                changed = True
                with closing(sqlite3.connect(source)) as connection:
                    connection.execute("UPDATE session SET name = 'renamed' WHERE uuid = ?", (session,))
                    connection.commit()

        with pytest.raises(Conflict, match=r"changed while it was copied \(session\)"):
            await copy(source, postgres_uri, change)
        assert (await copy(source, postgres_uri)).rows["session"] == counts(source)["session"]
    assert ("renamed",) in await rows(postgres_uri, "SELECT name FROM session")


async def test_killed_and_run_again(source: Path, postgres_uri: str, tmp_path: Path):
    """After each SIGKILL the next run continues, and no row is copied twice."""
    async with running(source) as store:
        session = await make(store)
        for number in range(400):
            await say(store, session, f"message {number}")
    program = (
        "import asyncio, sys\n"
        "from session_manager.databases import copying\n"
        "from session_manager.databases.opening import opened\n"
        "copying.BATCH_ROWS = 7\n"
        "async def copy():\n"
        "    async with opened(sys.argv[1], read_only=True) as a, opened(sys.argv[2], read_only=False) as b:\n"
        "        await copying.Copier(a, b, lambda *told: print(*told, flush=True)).copy()\n"
        "asyncio.run(copy())\n"
    )
    reached: list[int] = []
    for _ in range(3):
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-c", program, str(source), postgres_uri, stdout=asyncio.subprocess.PIPE
        )
        assert process.stdout is not None
        before = len(reached)
        while line := (await process.stdout.readline()).decode().split():
            if line[0] == "message":
                reached.append(int(line[1]))
            if len(reached) - before == 12:
                os.kill(process.pid, signal.SIGKILL)
                break
        await process.stdout.read()
        assert await process.wait() == -signal.SIGKILL
        await until(
            lambda: rows(postgres_uri, "SELECT count(*) = 1 FROM pg_stat_activity WHERE datname = current_database()")
        )
    assert reached == sorted(reached)
    assert reached[-1] > 200
    copied = await copy(source, postgres_uri)
    assert copied.resumed
    assert {name: copied.rows[name] for name in ("message", "session")} == {
        name: counts(source)[name] for name in ("message", "session")
    }


async def test_two_copies_at_once_do_not_mix(source: Path, postgres_uri: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(copying, "BATCH_ROWS", 1)
    ended = await asyncio.gather(copy(source, postgres_uri), copy(source, postgres_uri), return_exceptions=True)
    failures = [each for each in ended if isinstance(each, BaseException)]
    for failure in failures:
        assert isinstance(failure, (Conflict, StartupFailure)), failure
    if len(failures) == 2:
        await copy(source, postgres_uri)
    found = await rows(postgres_uri, "SELECT count(*) FROM message")
    assert found == [(counts(source)["message"],)]


@needs_fuse
async def test_a_source_on_an_unsuitable_mount(tmp_path: Path):
    """The last writes may still be in the WAL."""
    folder = tmp_path / "source"
    folder.mkdir()
    await fill(folder / "x.db")
    with closing(sqlite3.connect(folder / "x.db")) as connection:
        connection.execute("PRAGMA wal_autocheckpoint = 0")
        connection.execute("UPDATE session SET name = 'late'")
        connection.commit()
        for end in ("", "-wal"):
            shutil.copyfile(folder / f"x.db{end}", folder / f"y.db{end}")
    with bindfs(tmp_path, ("-o", "direct_io")) as point:
        copied = await copy(point / "y.db", tmp_path / "target.db")
        assert sorted(path.name for path in point.glob("y.db*")) == ["y.db", "y.db-wal"]
    assert copied.rows["session"] == 3
    assert "'late'" in "".join(dump(tmp_path / "target.db"))
