"""Litestream as our child process: everything it stores can be restored, whichever process ends first."""

from __future__ import annotations

import asyncio
import os
import signal
import sqlite3
import sys
import uuid
from collections.abc import AsyncIterator
from contextlib import closing
from dataclasses import replace
from functools import partial
from pathlib import Path

import psutil
import pytest

from session_manager.aio.retry import Backoff
from session_manager.backup import shipping
from session_manager.backup.litestream import Line, Litestream, configuration
from session_manager.backup.shipping import Shipper
from session_manager.domain.errors import BackupDamaged, StartupFailure
from session_manager.domain.times import Micros
from session_manager.storage.places import Place, open_place
from session_manager.store.protocol import NewSession
from session_manager.store.sqlite.adapter import SqliteStore
from tests.servers.buckets import place_of
from tests.servers.tools import litestream
from tests.waiting import until

SECONDS = 0.2


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return open_place(f"file://{tmp_path}/bucket")


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[SqliteStore]:
    store = SqliteStore(tmp_path / "data" / "sessions.db")
    await store.start()
    yield store
    await store.close()


@pytest.fixture
async def shipper(tmp_path: Path, place: Place, store: SqliteStore) -> AsyncIterator[Shipper]:
    shipper = Shipper(Litestream(litestream()), tmp_path / "data" / "sessions.db", line_of(place), SECONDS)
    await shipper.start()
    yield shipper
    await shipper.stop(patience=0)


def line_of(place: Place) -> Line:
    return Line(place, "session_shipping/7-abc")


async def add(store: SqliteStore, count: int = 1) -> None:
    for _ in range(count):
        await store.create_session(NewSession(str(uuid.uuid4()), "ada", "default", Micros(10**12)))


async def shipped(place: Place, path: Path) -> int:
    """Restore the line and return the number of sessions."""
    path.unlink(missing_ok=True)
    await Litestream(litestream()).fetch(line_of(place), path)
    with closing(sqlite3.connect(path)) as database:
        assert database.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        return int(database.execute("SELECT count(*) FROM session").fetchone()[0])


def another_than(killed: psutil.Process) -> bool:
    return any(child != killed for child in children())


def children() -> list[psutil.Process]:
    return [child for child in psutil.Process().children(recursive=True) if child.name() == "litestream"]


async def test_commits_are_shipped_soon_while_everything_runs(
    store: SqliteStore, shipper: Shipper, place: Place, tmp_path: Path
) -> None:
    await add(store, 20)

    async def all_there() -> bool:
        known = await Litestream(litestream()).newest_change(line_of(place))
        return known is not None and await shipped(place, tmp_path / "back.db") == 20

    await until(all_there)


async def test_changes_are_shipped_to_s3(store: SqliteStore, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    place = place_of("s3", request)
    place.ensure()
    shipper = Shipper(Litestream(litestream()), tmp_path / "data" / "sessions.db", line_of(place), SECONDS)
    await shipper.start()
    await add(store, 20)
    assert await flushed(shipper)
    assert await shipper.stop()
    assert await shipped(place, tmp_path / "back.db") == 20


async def test_shipping_leaves_no_process_and_no_files(
    store: SqliteStore, shipper: Shipper, place: Place, tmp_path: Path
) -> None:
    await until(children)
    await add(store, 500)
    await store.close()
    assert await shipper.stop()
    assert await shipped(place, tmp_path / "back.db") == 500
    assert not children()


async def test_a_killed_litestream_is_restarted_and_loses_nothing(
    store: SqliteStore, shipper: Shipper, place: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shipping, "BACKOFF", Backoff(0.05, 60.0))
    for _ in range(2):
        [killed] = await until(children)
        await add(store, 50)
        killed.kill()
        await add(store, 50)
        await until(partial(another_than, killed))
    assert await flushed(shipper)
    assert await shipped(place, tmp_path / "back.db") == 200


async def flushed(shipper: Shipper) -> bool:
    async def stored() -> bool:
        return await shipper.flush(1)

    return bool(await until(stored))


async def test_the_lag_is_the_time_since_everything_was_stored(
    store: SqliteStore, shipper: Shipper, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shipping, "LOOKS", 0.05)
    before = shipper.lag
    assert await flushed(shipper)
    await until(lambda: shipper.lag < 1.0 or shipper.lag < before)
    assert shipper.lag < 30


async def test_an_empty_line_differs_from_a_place_that_does_not_answer(place: Place) -> None:
    assert await Litestream(litestream()).newest_change(line_of(place)) is None


async def test_altered_changes_are_not_restored(
    store: SqliteStore, shipper: Shipper, place: Place, tmp_path: Path
) -> None:
    await add(store, 50)
    assert await flushed(shipper)
    await shipper.stop(patience=0)
    for file in (tmp_path / "bucket").rglob("*.ltx"):
        content = bytearray(file.read_bytes())
        content[len(content) // 2] ^= 0xFF
        file.write_bytes(content)
    with pytest.raises(BackupDamaged) as caught:
        await shipped(place, tmp_path / "back.db")
    assert "litestream" in caught.value.reason
    assert not (tmp_path / "back.db").exists()


def test_the_tool_gets_only_the_variables_it_needs() -> None:
    given = {
        "PATH": "/bin",
        "AWS_PROFILE": "p",
        "GOOGLE_APPLICATION_CREDENTIALS": "f",
        "SESSION_API_KEYS": "s",
        "https_proxy": "h",
    }
    tool = Litestream(Path("litestream"))
    assert tool.environment(given) == {name: given[name] for name in given if name != "SESSION_API_KEYS"}
    assert replace(tool, endpoint="127.0.0.1:1").environment(given)["STORAGE_EMULATOR_HOST"] == "127.0.0.1:1"
    assert tool.environment({"AWS_CA_BUNDLE": "ours.pem"}) == {"SSL_CERT_FILE": "ours.pem"}


def test_a_missing_tool_is_reported_with_how_to_install_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(StartupFailure, match="go install"):
        Litestream.find(None, None)
    old = tmp_path / "litestream"
    old.write_text("#!/bin/sh\necho v0.3.13\n")
    old.chmod(0o755)
    with pytest.raises(StartupFailure, match=r"0\.3\.13"):
        Litestream.find(None, None)


def test_the_configuration_holds_bucket_and_path(tmp_path: Path) -> None:
    line = Line(open_place("gs://bucket/below", endpoint="127.0.0.1:1"), "session_shipping/7-abc")
    text = configuration(tmp_path / "s.db", tmp_path / "own", tmp_path / "c", line, 3.0, 5.0)
    assert '"bucket": "bucket"' in text
    assert '"path": "below/session_shipping/7-abc"' in text
    assert '"sync-interval": "3.0s"' in text


async def test_the_tool_ends_when_its_parent_is_killed(tmp_path: Path, place: Place) -> None:
    """It stores the last changes first."""
    path = tmp_path / "data" / "sessions.db"
    writer = tmp_path / "writer.py"
    writer.write_text(
        "import asyncio, sys, uuid\n"
        "from pathlib import Path\n"
        "from session_manager.backup.litestream import Line, Litestream\n"
        "from session_manager.storage.places import open_place\n"
        "from session_manager.backup.shipping import Shipper\n"
        "from session_manager.store.protocol import NewSession\n"
        "from session_manager.store.sqlite.adapter import SqliteStore\n"
        "async def main(tool, path, place):\n"
        "    store = SqliteStore(Path(path)); await store.start()\n"
        "    line = Line(open_place(place), 'session_shipping/7-abc')\n"
        "    await Shipper(Litestream(Path(tool)), Path(path), line, 60.0).start()\n"
        "    for _ in range(30): await store.create_session(NewSession(str(uuid.uuid4()), 'ada', 'default', 10**12))\n"
        "    print('written', flush=True); await asyncio.Event().wait()\n"
        "asyncio.run(main(*sys.argv[1:]))\n"
    )
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        writer,
        litestream(),
        path,
        place.url,
        stdout=asyncio.subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(Path.cwd())},
    )
    assert process.stdout is not None
    assert await process.stdout.readline() == b"written\n"
    [child] = await until(lambda: [p for p in psutil.Process(process.pid).children() if p.name() == "litestream"])
    await until(lambda: list((tmp_path / "bucket").rglob("*.ltx")))
    process.send_signal(signal.SIGKILL)
    await process.wait()
    await until(lambda: not child.is_running() or child.status() == psutil.STATUS_ZOMBIE)
    assert await shipped(place, tmp_path / "back.db") == 30
