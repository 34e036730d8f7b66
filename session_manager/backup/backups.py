"""Opening the backups that the settings describe; making, checking and restoring them.

Everything blocks; ``Backups`` may be used from any thread.

A backup exists once its manifest is stored, which comes last. A backup that is killed, cut off or rejected before that
leaves only data without a manifest, which ``prune`` removes a day later.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from session_manager import __version__
from session_manager.backup.catalog import Catalog, Manifest, Pruned, Retention, data_of, manifest_of, new_name
from session_manager.backup.packing import CIPHER, Keys, Meter, compress, decompress, decrypt, encrypt, read_file
from session_manager.backup.source import Progress, Source, local_errors, need_room, scratch_file
from session_manager.backup.sqlite import SqliteSource
from session_manager.domain.errors import BackupDamaged, BackupError, BackupNotForUs, Conflict, NotFound, StartupFailure
from session_manager.domain.extras import needs_extra
from session_manager.settings import Settings
from session_manager.storage.files import write_file
from session_manager.storage.places import Place, open_place
from session_manager.store.open import database_path, database_uri
from session_manager.store.postgres.address import PostgresAddress


def quiet(phase: str, done: int, total: int) -> None:
    """Report no progress."""


@dataclass(frozen=True, slots=True)
class Restored:
    """``aside`` is the path of the database that was replaced, or None if there was none."""

    manifest: Manifest
    aside: str | None


class Backups:
    """The backups of one database in one place.

    With one writer, ``term`` is the term of this one, and ``fence`` raises as soon as it may have been replaced.
    """

    def __init__(self, source: Source, place: Place, keys: Keys, retention: Retention) -> None:
        self.source = source
        self.place = place
        self.catalog = Catalog(place, keys)
        self._keys = keys
        self._retention = retention
        self.term = 0
        self.fence: Callable[[], None] = lambda: None

    def create(self, progress: Progress = quiet, name: str | None = None) -> Manifest:
        """Make a backup. Raises Conflict while another one runs, and BackupError if none was made."""
        with self.source.alone():
            return self._create(progress, name or new_name(datetime.now(UTC)))

    def create_if_due(self, interval: float, progress: Progress = quiet, name: str | None = None) -> Manifest:
        """Return the newest backup if it is younger than ``interval`` seconds, or else make one."""
        with self.source.alone():
            newest = self.catalog.newest()
            now = datetime.now(UTC)
            if newest is not None and newest.left(interval, now) > 0:
                return newest
            return self._create(progress, name or new_name(now))

    def address(self, name: str) -> str:
        """Return the address of the backup's manifest."""
        return self.place.address(manifest_of(name))

    def _create(self, progress: Progress, name: str) -> Manifest:
        started = time.monotonic()
        self.place.ensure()
        with scratch_file(self.source, name) as path:
            dump = self.source.dump(path, progress)
            plain, stored = Meter(), Meter()
            self._upload(path, name, plain, stored, progress)
        key = self._keys.first
        manifest = Manifest(
            name=name,
            taken_at=dump.taken_at,
            engine=self.source.engine,
            schema_version=dump.schema_version,
            rows=dict(dump.rows),
            size=plain.size,
            sha256=plain.sha256,
            stored_size=stored.size,
            stored_sha256=stored.sha256,
            encryption=CIPHER if key else None,
            key=key.id if key else None,
            term=self.term or self._present_term(),
            program=__version__,
            duration=round(time.monotonic() - started, 3),
        )
        self.fence()
        self.catalog.put(manifest)
        return manifest

    def _present_term(self) -> int:
        """Without a lease all backups belong to the latest term, so that the time alone decides which is the newest."""
        newest = self.catalog.newest()
        return newest.term if newest else 0

    def _upload(self, path: Path, name: str, plain: Meter, stored: Meter, progress: Progress) -> None:
        total = path.stat().st_size
        blocks = compress(plain(read_file(path), lambda: progress("upload", plain.size, total)))
        if self._keys.first is not None:
            blocks = encrypt(self._keys.first, name, blocks)
        with local_errors():
            self.place.write(data_of(name), stored(blocks))
        if self.place.size(data_of(name)) != stored.size:
            raise BackupError("The backup was not stored completely")

    def verify(self, name: str, progress: Progress = quiet) -> Manifest:
        """Fetch the backup and check it as a restore would. Raises BackupDamaged, which says what is wrong."""
        manifest = self.catalog.get(name)
        with self.source.alone(), self._fetched(manifest, progress):
            return manifest

    def restore(
        self,
        name: str | None = None,
        progress: Progress = quiet,
        *,
        force: bool = False,
        accept_unauthenticated: bool = False,
    ) -> Restored:
        """Replace the database by the backup ``name``, or by the newest one, after checking it.

        Raises Conflict if the database is in use, or was written to after the backup and ``force`` is not set.
        """
        with self.source.alone():
            manifest = self.chosen(name, accept_unauthenticated=accept_unauthenticated)
            self.reject_older(manifest, force=force)
            return self._restore(manifest, progress)

    def restore_if_missing(self, progress: Progress = quiet) -> Restored | None:
        """Restore the newest good backup if there is no database.

        Return None if there is a database, or no backup. Raises BackupDamaged if there are only damaged backups.
        """
        if self.source.holds_data():
            return None
        with self.source.alone():
            damage: BackupDamaged | None = None
            for manifest in [] if self.source.holds_data() else self.catalog.usable():
                try:
                    return self._restore(manifest, progress)
                except BackupDamaged as error:
                    damage = damage or error
            if damage is not None:
                raise damage
            return None

    def put_back(self, manifest: Manifest, progress: Progress = quiet) -> Restored:
        """Restore this backup over whatever is there, by the program's own choice."""
        with self.source.alone():
            return self._restore(manifest, progress)

    @property
    def has_keys(self) -> bool:
        return self._keys.first is not None

    def reject_older(self, manifest: Manifest, *, force: bool) -> None:
        changed = self.source.changed_at()
        if changed is not None and changed > manifest.taken_at and not force:
            raise Conflict(
                f"The database was written to at {changed:%Y-%m-%d %H:%M:%S} UTC, after the backup was taken "
                f"({manifest.taken_at:%Y-%m-%d %H:%M:%S} UTC). To lose the later changes, stop the front door if it "
                "runs, and use --force"
            )

    def chosen(self, name: str | None, *, accept_unauthenticated: bool = False) -> Manifest:
        """Return the backup ``name``, or the newest one. Raises as ``Catalog.get`` and ``usable`` do."""
        if name is not None:
            return self.catalog.get(name, accept_unauthenticated=accept_unauthenticated)
        found = self.catalog.usable()
        if not found:
            raise NotFound("There is no backup")
        return found[0]

    def _restore(self, manifest: Manifest, progress: Progress) -> Restored:
        with self._fetched(manifest, progress) as path:
            return Restored(manifest, self.source.replace(path, manifest, progress))

    @contextmanager
    def _fetched(self, manifest: Manifest, progress: Progress) -> Iterator[Path]:
        """Yield the unpacked and checked file of a backup."""
        if manifest.engine != self.source.engine:
            raise BackupNotForUs(
                f"The backup holds a database of {manifest.engine}, but this one is of {self.source.engine}"
            )
        with scratch_file(self.source, manifest.name) as path:
            stored, plain = Meter(), Meter()
            self._download(manifest, path, stored, plain, progress)
            self.source.check(path, manifest, progress)
            yield path

    def _download(self, manifest: Manifest, path: Path, stored: Meter, plain: Meter, progress: Progress) -> None:
        data = data_of(manifest.name)
        if self.place.size(data) != manifest.stored_size:
            raise BackupDamaged("The stored backup has another size than its manifest says")
        blocks = stored(self.place.read(data), lambda: progress("download", stored.size, manifest.stored_size))
        if manifest.encryption is not None:
            blocks = decrypt(self._keys.find(manifest.key or ""), manifest.name, blocks)
        with local_errors():
            need_room(path.parent, manifest.size)  # a few bytes can unpack to enough to fill the disk
            write_file(path, plain(decompress(blocks, manifest.size)))
        if (stored.sha256, plain.size, plain.sha256) != (manifest.stored_sha256, manifest.size, manifest.sha256):
            raise BackupDamaged("The backup was altered after it was stored")

    def prune(self, now: datetime | None = None, *, dry_run: bool = False) -> Pruned:
        return self.catalog.prune(self._retention, now or datetime.now(UTC), dry_run=dry_run)


def open_backups(settings: Settings, path: Path | None = None) -> Backups | None:
    """Return the backups of the database in the settings, or of the SQLite file ``path``.

    Returns None if the settings name no place. Sends no request yet. Raises StartupFailure for invalid settings.
    """
    asked = settings.backup
    if asked.place is None:
        return None
    place = open_place(asked.place, project=asked.project, endpoint=asked.emulator_host, timeout=asked.timeout)
    keys = Keys.parse(asked.encryption_keys.get_secret_value() if asked.encryption_keys else "")
    return Backups(_source(settings, path), place, keys, Retention(asked.keep, asked.keep_days))


def _source(settings: Settings, path: Path | None) -> Source:
    path = path or database_path(settings)
    if path is not None:
        return SqliteSource(path)
    try:
        from session_manager.backup.postgres import PostgresSource  # noqa: PLC0415  an optional dependency
    except ModuleNotFoundError:
        raise StartupFailure(needs_extra("PostgreSQL", "postgres")) from None
    return PostgresSource(PostgresAddress.parse(database_uri(settings), settings.database.plain_hosts).uri)


def backup_session_db_to_gcs(local_db_path: str | Path, bucket_name: str, project_id: str | None = None) -> str:
    """Back up a SQLite file, which may be in use, and return the address of the backup's manifest.

    ``bucket_name`` is the name of a bucket, or any URL that STORAGE_BUCKET accepts. A missing bucket is created in
    ``project_id``. Everything else (keys, time-outs) comes from the settings. Blocks; an event loop may be running.
    Raises BackupError if no backup was made.
    """
    backups = _open_file(local_db_path, bucket_name, project_id)
    return backups.address(backups.create().name)


def restore_session_db_from_gcs(local_db_path: str | Path, bucket_name: str, project_id: str | None = None) -> bool:
    """Restore the newest good backup if there is no database at ``local_db_path``.

    Return True if a backup was restored. A database that exists stays as it is. Blocks; an event loop may be running.
    Raises BackupError if there are backups and none could be restored.
    """
    return _open_file(local_db_path, bucket_name, project_id).restore_if_missing() is not None


def _open_file(path: str | Path, bucket: str, project: str | None) -> Backups:
    settings = Settings.from_environment(storage_bucket=bucket, google_cloud_project=project)
    backups = open_backups(settings, Path(path))
    if backups is None:
        raise StartupFailure("Name the bucket of the backups")
    return backups
