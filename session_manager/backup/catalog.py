"""The backups in a place: their one order, and which of them may be removed."""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta

from session_manager.backup.manifest import FOLDER, Manifest, manifest_of, name_of
from session_manager.domain.errors import BackupDamaged, NotFound, StorageDenied, StorageMissing
from session_manager.storage.places import Entry, Place

LEFTOVER = 24 * 3600.0  # seconds; longer than any upload takes


@dataclass(frozen=True, slots=True)
class Retention:
    """A backup expires when it is neither among the ``count`` newest nor younger than ``days``."""

    count: int
    days: float

    def expired(self, manifests: Sequence[Manifest], now: datetime) -> list[Manifest]:
        """Return the expired ones of ``manifests``, which are sorted newest first."""
        oldest = now - timedelta(days=self.days)
        return [manifest for manifest in manifests[self.count :] if manifest.taken_at < oldest]


@dataclass(frozen=True, slots=True)
class Pruned:
    """Names. ``kept`` are expired backups that the place does not allow to remove."""

    backups: list[str]
    leftovers: list[str]
    kept: list[str]


class Catalog:
    """All methods block, as those of the place do."""

    def __init__(self, place: Place) -> None:
        self.place = place

    def all(self) -> list[Manifest]:
        """Return the backups, newest first: by the term of the writer, then by time.

        Backups with an unreadable manifest are left out, since they cannot be restored.
        """
        found = []
        for name in _names(self.place.entries(FOLDER)):
            with suppress(BackupDamaged, NotFound):
                found.append(self.get(name))
        return sorted(found, key=lambda manifest: (manifest.term, manifest.taken_at), reverse=True)

    def newest(self) -> Manifest | None:
        """Return the newest backup, or None if there is none."""
        return next(iter(self.all()), None)

    def get(self, name: str) -> Manifest:
        """Return the manifest of a backup. Raises NotFound, and BackupDamaged if the manifest cannot be read."""
        if name_of(f"{name}.json") is None:
            raise NotFound("There is no such backup")
        try:
            # At most one block is fetched; an object that is longer is not a manifest.
            data = next(self.place.read(manifest_of(name)), b"")
        except StorageMissing:
            raise NotFound("There is no such backup") from None
        return Manifest.read(data, name)

    def put(self, manifest: Manifest) -> None:
        self.place.write(manifest_of(manifest.name), [manifest.write()])

    def prune(self, retention: Retention, now: datetime, *, dry_run: bool = False) -> Pruned:
        """Remove expired backups and leftovers.

        The manifest is removed before the data, so that a killed run leaves only data without a manifest.
        """
        entries = self.place.entries(FOLDER)
        expired = [manifest.name for manifest in retention.expired(self.all(), now)]
        pruned = Pruned([], [], [])
        for name in expired:
            objects = sorted((entry.name for entry in entries if name_of(entry.name) == name), reverse=True)
            self._remove(name, sorted(objects, key=manifest_of(name).__ne__), pruned.backups, pruned.kept, dry_run)
        for name in _leftovers(entries, time.time()):
            self._remove(name, [name], pruned.leftovers, pruned.kept, dry_run)
        return pruned

    def _remove(self, name: str, objects: list[str], gone: list[str], kept: list[str], dry_run: bool) -> None:
        try:
            for each in () if dry_run else objects:
                self.place.delete(each)
        except StorageDenied:
            kept.append(name)
        else:
            gone.append(name)


def _names(entries: Sequence[Entry]) -> set[str]:
    """Return the names of all backups that have a manifest."""
    manifests = (name_of(entry.name) for entry in entries if entry.name.endswith(".json"))
    return {name for name in manifests if name is not None}


def _leftovers(entries: Sequence[Entry], now: float) -> list[str]:
    """Return old data of unfinished uploads, and old partial files."""
    known = _names(entries)
    return [
        entry.name
        for entry in entries
        if _is_ours(entry.name)
        and name_of(entry.name) not in known
        and entry.modified is not None
        and entry.modified < now - LEFTOVER
    ]


def _is_ours(name: str) -> bool:
    return name_of(name) is not None or name.endswith(".part")
