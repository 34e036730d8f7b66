"""The backups that lie in a place: which there are, which may go."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from session_manager.backup.manifest import FOLDER, Manifest, manifest_of, name_of
from session_manager.domain.errors import BackupDamaged, NotFound, StorageDenied, StorageMissing
from session_manager.storage.places import Entry, Place

LEFTOVER = 24 * 3600.0  # seconds; longer than any upload takes


@dataclass(frozen=True, slots=True)
class Retention:
    """A backup goes when it is neither among the ``count`` newest nor younger than ``days``."""

    count: int
    days: float

    def expired(self, manifests: Sequence[Manifest], now: datetime) -> list[Manifest]:
        """Of ``manifests``, newest first."""
        oldest = now - timedelta(days=self.days)
        return [manifest for manifest in manifests[self.count :] if manifest.taken_at < oldest]


@dataclass(frozen=True, slots=True)
class Pruned:
    """``kept``: those that should have gone, and that the place does not let go."""

    backups: list[str]
    leftovers: list[str]
    kept: list[str]


class Catalog:
    """Blocks, as its place does."""

    def __init__(self, place: Place) -> None:
        self.place = place

    def names(self) -> list[str]:
        """Every backup that there is, newest first."""
        return _names(self.place.entries(FOLDER))

    def all(self) -> list[Manifest]:
        """Newest first, by writer and time. One whose manifest cannot be read is left out: nor can it be restored."""
        found = []
        for name in self.names():
            try:
                found.append(self.get(name))
            except (BackupDamaged, NotFound):
                continue
        return sorted(found, key=lambda manifest: (manifest.term, manifest.taken_at), reverse=True)

    def newest(self) -> Manifest | None:
        for name in self.names():
            try:
                return self.get(name)
            except (BackupDamaged, NotFound):
                continue
        return None

    def get(self, name: str) -> Manifest:
        """NotFound, or BackupDamaged where its manifest says nothing."""
        if name_of(f"{name}.json") is None:
            raise NotFound("There is no such backup")
        try:
            # One block at most: of what is longer, and no manifest, the rest is not fetched.
            data = next(self.place.read(manifest_of(name)), b"")
        except StorageMissing:
            raise NotFound("There is no such backup") from None
        return Manifest.read(data, name)

    def put(self, manifest: Manifest) -> None:
        self.place.write(manifest_of(manifest.name), [manifest.write()])

    def prune(self, retention: Retention, now: datetime, *, dry_run: bool = False) -> Pruned:
        """Manifests first: what is killed in between leaves data that counts for nothing."""
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


def _names(entries: Sequence[Entry]) -> list[str]:
    manifests = (name_of(entry.name) for entry in entries if entry.name.endswith(".json"))
    return sorted((name for name in manifests if name is not None), reverse=True)


def _leftovers(entries: Sequence[Entry], now: float) -> list[str]:
    """Data of uploads that were never finished, and parts of files."""
    known = set(_names(entries))
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
