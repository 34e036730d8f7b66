"""Promises of the SQLite adapter only: one fsync for many calls, its patience with locks, a private file."""

from __future__ import annotations

import asyncio
import sqlite3
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from session_manager.domain.access import EVERYTHING
from session_manager.domain.errors import Conflict, InvalidInput, StartupFailure, StoreCannotWrite, StoreUnavailable
from session_manager.domain.message import Accepted
from session_manager.domain.times import Micros
from session_manager.store.sqlite.adapter import SqliteStore, inline
from session_manager.store.sqlite.connection import Connection, make_durable
from session_manager.store.sqlite.writer import MAX_BATCH, ThreadWriter
from tests.store.databases import DONE, make, new_message, new_session, say
from tests.waiting import until

LOCK = """
import sqlite3, sys
connection = sqlite3.connect(sys.argv[1], isolation_level=None)
connection.execute("BEGIN IMMEDIATE")
print("locked", flush=True)
sys.stdin.read()
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "sessions" / "sessions.db"


@pytest.fixture
async def store(path: Path) -> AsyncIterator[SqliteStore]:
    store = SqliteStore(path)
    await store.start()
    yield store
    await store.close()


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold the write lock in another process."""
    with subprocess.Popen(
        [sys.executable, "-c", LOCK, path], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "locked\n"
        yield
        assert process.stdin is not None
        process.stdin.close()


def writing(store: SqliteStore) -> sqlite3.Connection:
    """Return the connection that writes."""
    assert isinstance(store._writer, ThreadWriter)
    return store._writer._connection.raw


def rows(path: Path, sql: str) -> list[tuple]:
    connection = sqlite3.connect(path)
    try:
        return connection.execute(sql).fetchall()
    finally:
        connection.close()


@pytest.mark.parametrize(
    ("pragma", "value"),
    [("journal_mode", "wal"), ("synchronous", 2), ("foreign_keys", 1), ("wal_autocheckpoint", 4000), ("query_only", 0)],
)
async def test_commits_are_fsynced(store: SqliteStore, pragma: str, value: object) -> None:
    assert writing(store).execute(f"PRAGMA {pragma}").fetchone() == (value,)


async def test_readers_cannot_write(store: SqliteStore) -> None:
    def write():
        yield "DELETE FROM session", ()

    with pytest.raises(StoreUnavailable) as caught:
        await store._read(write)
    assert "readonly" in str(caught.value.__cause__)


async def test_waiting_calls_are_committed_at_once(store: SqliteStore, path: Path) -> None:
    session = await make(store)
    statements: list[str] = []
    with locked(path):
        accepting = [asyncio.ensure_future(store.accept(new_message(session), EVERYTHING)) for _ in range(100)]
        await asyncio.sleep(0)
        writing(store).set_trace_callback(statements.append)
    accepted = await asyncio.gather(*accepting)
    writing(store).set_trace_callback(None)
    assert statements.count("COMMIT") == 1
    assert [one.message.seq for one in accepted] == list(range(1, 101))


async def test_a_batch_is_bounded(store: SqliteStore, path: Path) -> None:
    session = await make(store)
    statements: list[str] = []
    with locked(path):
        accepting = [
            asyncio.ensure_future(store.accept(new_message(session), EVERYTHING)) for _ in range(MAX_BATCH + 1)
        ]
        await asyncio.sleep(0)
        writing(store).set_trace_callback(statements.append)
    await asyncio.gather(*accepting)
    writing(store).set_trace_callback(None)
    assert statements.count("COMMIT") == 2


async def test_a_bad_call_fails_alone(store: SqliteStore, path: Path) -> None:
    session = await make(store)
    known = await say(store, session)
    with locked(path):
        calls = [
            asyncio.ensure_future(store.accept(new, EVERYTHING))
            for new in (
                new_message(session),
                new_message(session, "half a \ud800 pair"),
                new_message(session, id=known),
                new_message(session),
            )
        ]
        await asyncio.sleep(0)
    good, surrogate, repeated, also_good = await asyncio.gather(*calls, return_exceptions=True)
    assert isinstance(surrogate, InvalidInput)
    assert isinstance(repeated, Conflict)
    assert isinstance(good, Accepted)
    assert isinstance(also_good, Accepted)
    assert (good.message.seq, also_good.message.seq) == (2, 3)
    assert [message.seq for message in await store.list_messages(session, EVERYTHING, 10)] == [1, 2, 3]


async def test_a_single_bad_call_is_undone(store: SqliteStore) -> None:
    session = await make(store)
    known = await say(store, session)
    before = await store.get_session(session, EVERYTHING)
    with pytest.raises(Conflict):
        await store.accept(new_message(session, id=known), EVERYTHING)
    assert await store.get_session(session, EVERYTHING) == before


async def test_locked_for_longer_than_the_patience(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    store = SqliteStore(path, patience=0.2)
    await store.start()
    session = await make(store)
    with locked(path):
        results = await asyncio.gather(
            *(store.accept(new_message(session), EVERYTHING) for _ in range(5)),
            store.touch_session(session, EVERYTHING),
            return_exceptions=True,
        )
        assert [type(one) for one in results] == [StoreUnavailable] * 6
        assert (await store.get_session(session, EVERYTHING)).uuid == session, "reads still work"
        assert caplog.text.count("could not be locked") < 10, "it waits without spinning"
    assert (await store.accept(new_message(session), EVERYTHING)).message.seq == 1, "a rejected call never runs"
    await store.close()
    assert rows(path, "SELECT count(*) FROM message") == [(1,)]


async def test_each_call_has_its_own_patience(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    store = SqliteStore(path, patience=0.1)
    await store.start()
    session = await make(store)
    with locked(path):
        first = asyncio.ensure_future(store.accept(new_message(session), EVERYTHING))
        second = asyncio.ensure_future(store.accept(new_message(session), EVERYTHING))
        await asyncio.sleep(0)
        assert isinstance(store._writer, ThreadWriter)
        store._writer._queue[1].since += 1000  # as if it had arrived much later
        with pytest.raises(StoreUnavailable):
            await first
        await until(lambda: caplog.text.count("could not be locked") >= 2)
        assert not second.done()
    assert (await second).message.seq == 1
    await store.close()


async def test_locked_at_the_start(path: Path) -> None:
    first = SqliteStore(path)
    await first.start()
    with locked(path):
        late = SqliteStore(path, patience=0.1)
        with pytest.raises(StoreUnavailable):
            await late.start()
        with pytest.raises(StoreUnavailable):
            await late.get_session("x", EVERYTHING)
    await late.start()
    await late.close()
    await first.close()


async def test_a_call_cancelled_before_its_start_never_runs(store: SqliteStore, path: Path) -> None:
    session = await make(store)
    with locked(path):
        gone = asyncio.ensure_future(store.accept(new_message(session, "gone"), EVERYTHING))
        stays = asyncio.ensure_future(store.accept(new_message(session, "stays"), EVERYTHING))
        await asyncio.sleep(0)
        gone.cancel()
    assert (await stays).message.seq == 1
    assert [message.text for message in await store.list_messages(session, EVERYTHING, 10)] == ["stays"]


async def test_a_full_disk(store: SqliteStore, path: Path) -> None:
    session = await make(store)
    message = await say(store, session)
    pages = writing(store).execute("PRAGMA page_count").fetchone()[0]
    writing(store).execute(f"PRAGMA max_page_count = {pages}")
    with locked(path):
        calls = [
            asyncio.ensure_future(call)
            for call in (
                store.record(message, 1, DONE),
                store.accept(new_message(session, "x" * 1_000_000), EVERYTHING),
            )
        ]
        await asyncio.sleep(0)
    results = await asyncio.gather(*calls, return_exceptions=True)
    assert [type(one) for one in results] == [StoreCannotWrite] * 2
    assert (await store.get_message(session, message, EVERYTHING)).finished_at is None
    with pytest.raises(StoreCannotWrite, match="The disk of the database is full"):
        await store.ping()
    writing(store).execute("PRAGMA max_page_count = 1000000")
    await store.ping()
    assert await store.record(message, 1, DONE) == []
    assert (await store.accept(new_message(session, "x" * 1_000_000), EVERYTHING)).message.seq == 2


async def test_a_commit_that_fails(store: SqliteStore) -> None:
    def orphan(now: Micros):
        yield "PRAGMA defer_foreign_keys = ON", ()
        yield "INSERT INTO session_event VALUES ('nobody', 1, 'kind', NULL, '{}', 0)", ()

    with pytest.raises(StoreUnavailable):
        await store._write(orphan)
    await store.accept(new_message(await make(store)), EVERYTHING)


async def test_close_finishes_submitted_calls(path: Path) -> None:
    store = SqliteStore(path)
    await store.start()
    session = await make(store)
    accepting = [asyncio.ensure_future(store.accept(new_message(session), EVERYTHING)) for _ in range(20)]
    await asyncio.sleep(0)
    await store.close()
    assert [one.message.seq for one in await asyncio.gather(*accepting)] == list(range(1, 21))
    for call in (store.accept(new_message(session), EVERYTHING), store.get_session(session, EVERYTHING), store.ping()):
        with pytest.raises(StoreUnavailable):
            await call
    await store.close()
    assert [file.name for file in path.parent.iterdir()] == ["sessions.db"], "the WAL is merged into the file"
    await store.start()
    assert (await store.accept(new_message(session), EVERYTHING)).message.seq == 21
    await store.close()


async def test_the_files_are_for_their_owner_only(store: SqliteStore, path: Path) -> None:
    await make(store)
    assert path.parent.stat().st_mode & 0o777 == 0o700
    modes = {file.name: file.stat().st_mode & 0o777 for file in path.parent.iterdir()}
    assert modes == {"sessions.db": 0o600, "sessions.db-wal": 0o600, "sessions.db-shm": 0o600}


async def test_a_file_that_others_could_read_is_closed_to_them(path: Path) -> None:
    path.parent.mkdir(mode=0o755)
    path.touch(mode=0o644)
    store = SqliteStore(path)
    await store.start()
    await store.close()
    assert path.stat().st_mode & 0o777 == 0o600
    assert path.parent.stat().st_mode & 0o777 == 0o755, "an existing folder keeps its mode"


@pytest.mark.parametrize("where", ["file/x.db", "folder", "/proc/nowhere/x.db"])
async def test_a_file_that_cannot_be_written(tmp_path: Path, where: str) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "folder").mkdir()
    store = SqliteStore(tmp_path / where)
    with pytest.raises(StartupFailure, match=r"^The database file .*cannot be written: [A-Z][\w ]+$"):
        await store.start()


async def test_a_file_that_is_not_a_database(path: Path) -> None:
    path.parent.mkdir()
    path.write_text("This is a letter to my aunt. " * 100)
    with pytest.raises(StartupFailure, match="not a database"):
        await SqliteStore(path).start()


def test_a_file_system_without_wal(tmp_path: Path) -> None:
    connection = Connection(str(tmp_path / "x.db"), 1.0)
    connection.raw.close()
    # This locking mode has no shared memory, which WAL needs.
    connection.raw = sqlite3.connect(f"file:{tmp_path / 'y.db'}?vfs=unix-dotfile", uri=True, isolation_level=None)
    with pytest.raises(StartupFailure, match="does not support SQLite's WAL"):
        make_durable(connection, 1.0)
    connection.close()


async def test_inline_in_virtual_time() -> None:
    now = 1_000_000
    store = SqliteStore(Path(":memory:"), clock=lambda: now, workers=inline)
    await store.start()
    made = await store.create_session(new_session(ttl=50))
    assert (made.created_at, made.expires_at) == (1_000_000, 1_000_050)
    now += 49
    assert await store.expirable(10) == []
    now += 1
    assert [session.uuid for session in await store.expirable(10)] == [made.uuid]
    assert (await store.accept(new_message(made.uuid), EVERYTHING)).message.accepted_at == now
    assert await store.now() == now
    await store.close()


async def test_inline_never_lets_another_task_run() -> None:
    store = SqliteStore(Path(":memory:"), workers=inline)
    await store.start()
    ran: list[str] = []
    asyncio.get_running_loop().call_soon(ran.append, "another")
    session = await make(store)
    message = await say(store, session)
    await store.record(message, 1, DONE)
    await store.list_messages(session, EVERYTHING, 10)
    assert ran == []
    await store.close()
