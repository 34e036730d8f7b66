"""Backup and restore of a SQLite file.

The copy is made by SQLite's own backup, a few megabytes at a time, in one read transaction. In WAL mode that blocks no
writer. Without the transaction, every write would make the copy start again.

A restore replaces the file by one rename. Before that, the WAL is written into the old file, which gets a second name:
SQLite would apply a WAL that is left to the new file.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import quote

from session_manager.backup.catalog import Engine, Manifest
from session_manager.backup.source import SCHEMA, Dump, Progress, compare, local_errors, need_room, reject_newer_schema
from session_manager.domain.errors import BackupDamaged, BackupError, Conflict
from session_manager.storage.files import sync_folder

_PAGES = 1024  # per step, 4 MiB: short enough to be interrupted, long enough to cost nothing
_BESIDE = ("-wal", "-shm", "-journal")


class SqliteSource:
    """``path`` is that of the database file, which need not exist."""

    engine: Engine = "sqlite"

    def __init__(self, path: Path) -> None:
        self.path = path

    @contextmanager
    def alone(self) -> Iterator[None]:
        with local_errors():
            self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            lock = os.open(self._beside(".backup-lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise Conflict("A backup or a restore of this database is already running") from None
            for left in self.path.parent.glob(f"{self.path.name}.scratch-*"):
                left.unlink(missing_ok=True)
            yield
        finally:
            os.close(lock)

    def scratch(self, name: str) -> Path:
        return self._beside(f".scratch-{name}")

    def _beside(self, ending: str) -> Path:
        return self.path.with_name(self.path.name + ending)

    def dump(self, path: Path, progress: Progress) -> Dump:
        if not self.holds_data():
            raise BackupError("There is no database to back up", reason=f"{self.path} is missing or empty")
        with local_errors(), closing(_connect(self.path)) as source:
            need_room(path.parent, self._size())
            os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
            taken_at = datetime.now(UTC)
            source.execute("BEGIN")
            source.execute("SELECT count(*) FROM sqlite_master").fetchone()  # it sees one state from now on
            with closing(_connect(path)) as target:
                _copy(source, target, progress)
                [problem] = target.execute("PRAGMA quick_check(1)").fetchone()
                if problem != "ok":
                    raise BackupError("The database is damaged", reason=f"quick_check: {problem}")
                return Dump(taken_at, schema(target)[0], count_rows(target))

    def _files(self) -> list[Path]:
        return [file for file in (self.path, self._beside("-wal")) if file.exists()]

    def _size(self) -> int:
        return sum(file.stat().st_size for file in self._files())

    def check(self, path: Path, manifest: Manifest | None, progress: Progress) -> None:
        """Without a manifest, check only the database itself."""
        progress("check", 0, 0)
        try:
            with closing(_connect(path, "mode=ro&immutable=1")) as database:
                _check(database, manifest)
        except sqlite3.DatabaseError as error:
            raise BackupDamaged("The file is not an intact database", reason=f"SQLite: {error}") from error

    def holds_data(self) -> bool:
        return self.path.exists() and self._size() > 0

    def changed_at(self) -> datetime | None:
        if not self.holds_data():
            return None
        return datetime.fromtimestamp(max(file.stat().st_mtime for file in self._files()), UTC)

    def replace(self, path: Path, manifest: Manifest, progress: Progress) -> str | None:
        return self.put_in_place(path, manifest.taken_at)

    def put_in_place(self, path: Path, taken_at: datetime) -> str | None:
        """Replace the database by a checked file with the state at ``taken_at``; see ``Source.replace``."""
        with local_errors():
            os.utime(path, (taken_at.timestamp(),) * 2)  # as old as its content
            if not self.holds_data():
                self._exchange(path, _BESIDE)
                return None
            with self._unused() as intact:
                return self._exchange(path, ("",) if intact else ("", *_BESIDE))

    @contextmanager
    def _unused(self) -> Iterator[bool]:
        """Lock the old file. Yield True if its WAL was written into it, or False if it is too damaged for that."""
        with closing(_connect(self.path)) as old:
            try:
                # Fails while another process has it open, even an idle one.
                old.execute("PRAGMA journal_mode = DELETE")
                old.execute("BEGIN EXCLUSIVE")
            except sqlite3.OperationalError as error:
                if error.sqlite_errorcode & 0xFF == sqlite3.SQLITE_BUSY:
                    raise Conflict("The database is in use: stop the front door first") from None
                raise
            except sqlite3.DatabaseError:
                yield False
                return
            yield True

    def _exchange(self, path: Path, endings: tuple[str, ...]) -> str:
        """Put ``path`` in place, and keep the old files with these endings under the returned name.

        They get it as a second name, so that the database itself never lacks its first one.
        """
        aside = self._beside(f".before-{datetime.now(UTC):%Y%m%dT%H%M%S.%fZ}")
        old = [(self._beside(ending), aside.with_name(aside.name + ending)) for ending in endings]
        there = [(first, second) for first, second in old if first.exists()]
        for first, second in there:
            _link(first, second)
        sync_folder(self.path.parent)
        for first, _ in there:
            if first != self.path:
                first.unlink()
        path.chmod(0o600)
        path.replace(self.path)
        sync_folder(self.path.parent)
        return str(aside)


def _connect(path: Path, options: str = "mode=rw") -> sqlite3.Connection:
    return sqlite3.connect(f"file:{quote(str(path.absolute()))}?{options}", uri=True, isolation_level=None, timeout=5.0)


def _copy(source: sqlite3.Connection, target: sqlite3.Connection, progress: Progress) -> None:
    [page] = source.execute("PRAGMA page_size").fetchone()
    target.execute("PRAGMA synchronous = OFF")  # a killed copy is thrown away
    target.execute("PRAGMA journal_mode = OFF")

    def report(_: int, left: int, total: int) -> None:
        progress("copy", (total - left) * page, total * page)

    source.backup(target, pages=_PAGES, progress=report)
    target.execute("PRAGMA journal_mode = DELETE")  # one file, and no WAL beside it


def _check(database: sqlite3.Connection, manifest: Manifest | None) -> None:
    [problem] = database.execute("PRAGMA integrity_check(1)").fetchone()
    if problem != "ok":
        raise BackupDamaged("The file is not an intact database", reason=f"integrity_check: {problem}")
    orphan = database.execute("PRAGMA foreign_key_check").fetchone()
    if orphan is not None:
        raise BackupDamaged(f"The table {orphan[0]} of the backup refers to missing rows")
    version, readable_by = schema(database)
    if manifest is not None:
        if version != manifest.schema_version:
            raise BackupDamaged("The backup has another schema than its manifest says")
        compare(count_rows(database), manifest)
    reject_newer_schema(version, readable_by)


def schema(database: sqlite3.Connection) -> tuple[int, int]:
    """Return the version of our tables and of the oldest program that can read them; (0, 0) if there are none."""
    row = None
    with suppress(sqlite3.OperationalError):
        row = database.execute(SCHEMA).fetchone()
    return (int(row[0]), int(row[1])) if row else (0, 0)


def count_rows(database: sqlite3.Connection) -> dict[str, int]:
    names = database.execute(
        "SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite\\_%' ESCAPE '\\'"
    )
    counted = {}
    for (name,) in names.fetchall():
        quoted = name.replace('"', '""')
        [counted[name]] = database.execute(f'SELECT count(*) FROM "{quoted}"').fetchone()  # noqa: S608  our own tables
    return counted


def _link(first: Path, second: Path) -> None:
    """Give the file a second name, or copy it if the file system has no hard links."""
    try:
        second.hardlink_to(first)
    except OSError:
        shutil.copy2(first, second)
        with second.open("rb") as file:
            os.fsync(file.fileno())
