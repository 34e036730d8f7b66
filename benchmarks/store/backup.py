"""``python -m benchmarks.store.backup``: backup and restore of 1 GB, compared with the disk and SQLite alone.

All sides take turns for some rounds, on one database whose messages consist of words.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import sqlite3
import sys
import tempfile
from collections.abc import Callable
from contextlib import closing, suppress
from pathlib import Path
from statistics import median
from time import perf_counter, process_time
from typing import Any

from benchmarks.progress import say
from session_manager.backup.backups import Backups
from session_manager.backup.catalog import Retention
from session_manager.backup.packing import Keys
from session_manager.backup.sqlite import SqliteSource
from session_manager.domain.access import EVERYTHING
from session_manager.storage.places import open_place
from session_manager.store.sqlite.adapter import SqliteStore

MB = 1_000_000
WORDS = 20_000
BOOK = 4_000_000  # words
LENGTH = 1300  # letters of a message
SESSION = "00000000-0000-4000-8000-000000000000"
_SESSION = """
INSERT INTO session (uuid, user_id, app, adk_id, class_name, ttl, created_at, last_activity, expires_at)
VALUES (?, 'bench', 'default', ?, 'default', 1, 0, 0, 1)
"""
_MESSAGE = """
INSERT INTO message (id, session, seq, text, response, caller, accepted_at, finished_at, status)
VALUES (?, ?, ?, ?, ?, 'bench', 0, 0, 'processed')
"""
KEY = "MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE="


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.store.backup", description=__doc__)
    parser.add_argument("--size", type=int, default=1000, help="of the database, MB (1000)")
    parser.add_argument("--rounds", type=int, default=3, help="of each side, in turn (3)")
    parser.add_argument("--folder", type=Path, help="folder for the data during the run, on the disk to be measured")
    return parser.parse_args()


async def make_schema(path: Path) -> None:
    store = SqliteStore(path)
    await store.start()
    await store.close()


def fill(path: Path, size: int) -> None:
    """Add messages and replies of some hundred words until the file has ``size`` megabytes.

    They are cut from a text that is far longer than the window of the compression.
    """
    chance = random.Random(7)
    words = ["".join(chance.choices("abcdefghijklmnopqrstuvwxyz", k=chance.randint(2, 11))) for _ in range(WORDS)]
    book = " ".join(chance.choices(words, k=BOOK))

    def say_something() -> str:
        at = chance.randrange(len(book) - LENGTH)
        return book[at : at + LENGTH]

    first = 1
    with closing(sqlite3.connect(path)) as database:
        database.execute("PRAGMA synchronous = OFF")
        database.execute(_SESSION, (SESSION, SESSION))
        while path.stat().st_size < size * MB:
            with database:
                database.executemany(
                    _MESSAGE,
                    (
                        (os.urandom(16).hex(), SESSION, seq, say_something(), json.dumps({"reply": say_something()}))
                        for seq in range(first, first + 1000)
                    ),
                )
            first += 1000


def copied(source: Path, target: Path) -> None:
    """Read, write and fsync: no copy can be faster on this disk."""
    with source.open("rb") as read, target.open("wb") as written:
        while block := read.read(MB):
            written.write(block)
        written.flush()
        os.fsync(written.fileno())


def copied_by_sqlite(source: Path, target: Path) -> None:
    """Copy like ``.backup`` of the sqlite3 shell, in one step and without a check."""
    with closing(sqlite3.connect(source)) as read, closing(sqlite3.connect(target)) as written:
        read.backup(written)


class Sides:
    """The sides by the name in the report. Each runs with a fresh target."""

    def __init__(self, database: Path, folder: Path) -> None:
        self._database = database
        self._folder = folder
        self._plain = self._backups("", database)
        self._sealed = self._backups(KEY, database)
        self.stored = 0

    def _backups(self, keys: str, path: Path) -> Backups:
        place = open_place(f"file://{self._folder}/bucket-{bool(keys)}")
        return Backups(SqliteSource(path), place, Keys.parse(keys), Retention(1, 0.0))

    def of(self) -> dict[str, Callable[[Path], None]]:
        return {
            "copy and fsync": lambda target: copied(self._database, target),
            "sqlite3 .backup": lambda target: copied_by_sqlite(self._database, target),
            "backup": lambda _: self._create(self._plain),
            "backup, encrypted": lambda _: self._create(self._sealed),
            "verify": lambda _: self._verify(),
            "restore": lambda target: self._restore("", target),
            "restore, encrypted": lambda target: self._restore(KEY, target),
        }

    def _create(self, backups: Backups) -> None:
        self.stored = backups.create().stored_size

    def _verify(self) -> None:
        self._plain.verify(self._plain.chosen(None).name)

    def _restore(self, keys: str, target: Path) -> None:
        if self._backups(keys, target).restore_if_missing() is None:
            raise RuntimeError("nothing was restored")


def measure(sides: Sides, folder: Path, rounds: int) -> dict[str, list[tuple[float, float]]]:
    """Return the wall and CPU seconds of each side."""
    taken: dict[str, list[tuple[float, float]]] = {name: [] for name in sides.of()}
    for number in range(rounds):
        for name, run in sides.of().items():
            target = folder / "target.db"
            began, cpu = perf_counter(), process_time()
            run(target)
            taken[name].append((perf_counter() - began, process_time() - cpu))
            say(f"round {number + 1}: {name} {taken[name][-1][0]:.1f} s")
            for left in folder.glob("target.db*"):
                left.unlink()
    return taken


async def appends_meanwhile(database: Path, backups: Backups) -> dict[str, float]:
    """Return p50 and p99 of a commit in ms, alone and during a backup."""
    store = SqliteStore(database)
    await store.start()
    try:
        alone = await _commits(store, asyncio.create_task(asyncio.sleep(5)))
        busy = await _commits(store, asyncio.create_task(asyncio.to_thread(backups.create)))
    finally:
        await store.close()
    return {
        f"{name}_{quantile}_ms": 1000 * sorted(times)[int(len(times) * share)]
        for name, times in (("alone", alone), ("meanwhile", busy))
        for quantile, share in (("p50", 0.5), ("p99", 0.99))
    }


async def _commits(store: SqliteStore, until: asyncio.Task[Any]) -> list[float]:
    times: list[float] = []
    while not until.done():
        began = perf_counter()
        await store.touch_session(SESSION, EVERYTHING)
        times.append(perf_counter() - began)
        await asyncio.sleep(0.002)
    await until
    return times


def main() -> None:
    given = arguments()
    with tempfile.TemporaryDirectory(prefix="bench-backup-", dir=given.folder) as name:
        folder = Path(name)
        database = folder / "sessions.db"
        say(f"filling {given.size} MB")
        asyncio.run(make_schema(database))
        fill(database, given.size)
        size = database.stat().st_size
        sides = Sides(database, folder)
        taken = measure(sides, folder, given.rounds)
        say("commits during a backup")
        commits = asyncio.run(appends_meanwhile(database, sides._backups("", database)))
    with suppress(BrokenPipeError):
        print(report(size, sides.stored, taken, commits), file=sys.stdout)


def report(size: int, stored: int, taken: dict[str, list[tuple[float, float]]], commits: dict[str, float]) -> str:
    lines = [f"{size / MB:.0f} MB, {stored / MB:.0f} MB stored", "", "| | seconds | MB/s | processor, s | × copy |"]
    lines.append("|---|---|---|---|---|")
    for name, times in taken.items():
        wall, cpu = median(wall for wall, _ in times), median(cpu for _, cpu in times)
        ratio = median(a[0] / b[0] for a, b in zip(times, taken["copy and fsync"], strict=True))
        lines.append(f"| {name} | {wall:.1f} | {size / MB / wall:.0f} | {cpu:.1f} | {ratio:.1f} |")
    shown = ", ".join(f"{name} {value:.2f}" for name, value in commits.items())
    return "\n".join([*lines, "", f"A commit: {shown}"])


if __name__ == "__main__":
    main()
