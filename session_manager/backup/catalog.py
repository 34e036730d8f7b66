"""The backups in a place: the manifest that describes each one, their one order, and which of them may be removed.

A manifest is uploaded after its data: without a manifest there is no backup. Where keys are configured, the last member
of a manifest is the HMAC-SHA256 of all bytes before it, and a manifest without a valid one does not count: an attacker
who may only write to the place can neither bring in a backup nor change the term, the time or the hashes of one.
"""

from __future__ import annotations

import re
import secrets
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Literal

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, PrivateAttr, ValidationError

from session_manager.domain.errors import BackupDamaged, NotFound, StorageDenied, StorageMissing

if TYPE_CHECKING:
    from session_manager.backup.packing import Keys
    from session_manager.storage.places import Entry, Place

FOLDER = "session_backups"
LEFTOVER = 24 * 3600.0  # seconds; longer than any upload takes
NAME = re.compile(r"\d{8}T\d{6}Z-[0-9a-f]{8}")
Engine = Literal["sqlite", "postgresql"]
_HASH = r"^[0-9a-f]{64}$"
_PROOF = re.compile(rb',\n "mac": "([0-9a-f]{64})"\n}\n')


class Manifest(BaseModel):
    """The description of one backup. Sizes in bytes, durations in seconds; it holds the state at ``taken_at``."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    format: Literal[1] = 1
    name: str = Field(pattern=f"^{NAME.pattern}$")
    taken_at: AwareDatetime
    engine: Engine
    schema_version: int = Field(ge=0, description="Version of our tables; 0 if there are none.")
    rows: dict[str, int] = Field(description="Number of rows by table.")
    size: int = Field(ge=0, description="Size of the unpacked database.")
    sha256: str = Field(pattern=_HASH)
    stored_size: int = Field(ge=0)
    stored_sha256: str = Field(pattern=_HASH)
    compression: Literal["zstd"] = "zstd"
    encryption: Literal["AES-256-GCM"] | None = None
    key: str | None = Field(None, description="Id of the key, if it is encrypted.")
    term: int = Field(0, ge=0, description="Term of the one writer; 0 without a lease.")
    program: str = Field(description="Version of the program that made the backup.")
    duration: float = Field(ge=0, description="Seconds until the manifest was written.")
    _authenticated: bool = PrivateAttr(default=False)

    @property
    def authenticated(self) -> bool:
        """A key that is configured here has signed it."""
        return self._authenticated

    @property
    def sessions(self) -> int:
        return self.rows.get("session", self.rows.get("public.session", 0))

    def left(self, interval: float, now: datetime) -> float:
        """Return the seconds until the next backup is due, ``interval`` seconds after this one; 0 if it is due now.

        A backup from further in the future than ``interval`` was made by a wrong clock, so the next one is due.
        """
        age = (now - self.taken_at).total_seconds()
        return max(0.0, interval - age) if age > -interval else 0.0


def _unproven(finding: str) -> str:
    return (
        f"{finding} by a key in BACKUP_ENCRYPTION_KEYS. If you know that it is yours, restore it "
        "by its name with --accept-unauthenticated"
    )


def new_name(now: datetime) -> str:
    """Return a unique name that sorts by time."""
    return f"{now.astimezone(UTC):%Y%m%dT%H%M%SZ}-{secrets.token_hex(4)}"


def data_of(name: str) -> str:
    return f"{FOLDER}/{name}.zst"


def manifest_of(name: str) -> str:
    return f"{FOLDER}/{name}.json"


def name_of(entry: str) -> str | None:
    """Return the name of the backup that an object belongs to, or None if it belongs to none."""
    name, _, ending = entry.rpartition("/")[2].partition(".")
    return name if ending in ("zst", "json") and NAME.fullmatch(name) else None


@dataclass(frozen=True, slots=True)
class Retention:
    """A backup expires when it is neither among the ``count`` newest nor younger than ``days``."""

    count: int
    days: float


@dataclass(frozen=True, slots=True)
class Pruned:
    """Names. ``kept`` are expired backups that the place does not allow to remove."""

    backups: list[str]
    leftovers: list[str]
    kept: list[str]


class Catalog:
    """All methods block, as those of the place do."""

    def __init__(self, place: Place, keys: Keys) -> None:
        self.place = place
        self._keys = keys
        self._read: dict[str, Manifest] = {}

    def all(self) -> list[Manifest]:
        """Return the backups, newest first: by the term of the writer, then by time.

        Backups with an unreadable manifest are left out, since they cannot be restored, and so are those that no key
        proves, if there are keys. Each manifest is fetched once, as no name is written twice.
        """
        return [manifest for manifest in self.everything() if self._counts(manifest)]

    def everything(self) -> list[Manifest]:
        """Return what claims to be a backup, in the order of ``all``; what a person may see, but a program not use."""
        read = {}
        for name in _names(self.place.entries(FOLDER)):
            with suppress(BackupDamaged, NotFound):
                read[name] = self._read.get(name) or self._fetch(name)
        self._read = read
        return sorted(read.values(), key=lambda manifest: (manifest.term, manifest.taken_at), reverse=True)

    def usable(self) -> list[Manifest]:
        """Return ``all`` for a restore that no person chooses.

        Raises BackupNotForUs if a backup that may be newer needs a key that is missing here, and BackupDamaged if there
        are backups, but no key proves any of them. To begin with older data or none would lose what they hold.
        """
        counted = self.all()
        doubtful = [manifest for manifest in self._read.values() if not self._counts(manifest)]
        for manifest in doubtful:
            if manifest.key is not None and all(manifest.taken_at > each.taken_at for each in counted):
                self._keys.find(manifest.key)
        if doubtful and not counted:
            raise BackupDamaged(_unproven("None of the backups is authenticated"))
        return counted

    def newest(self) -> Manifest | None:
        """Return the newest backup, or None if there is none."""
        return next(iter(self.all()), None)

    def get(self, name: str, *, accept_unauthenticated: bool = False) -> Manifest:
        """Return the manifest of a backup. Raises NotFound; BackupDamaged if it cannot be read or no key proves it."""
        manifest = self._fetch(name)
        if accept_unauthenticated or self._counts(manifest):
            return manifest
        if manifest.key is not None:
            self._keys.find(manifest.key)
        raise BackupDamaged(_unproven(f"The backup {name} is not authenticated"))

    def _counts(self, manifest: Manifest) -> bool:
        return manifest.authenticated or self._keys.first is None

    def _fetch(self, name: str) -> Manifest:
        if not NAME.fullmatch(name):
            raise NotFound("There is no such backup")
        try:
            # At most one block is fetched; an object that is longer is not a manifest.
            content = next(self.place.read(manifest_of(name)), b"")
            manifest = Manifest.model_validate_json(content)
        except StorageMissing:
            raise NotFound("There is no such backup") from None
        except ValidationError:
            raise BackupDamaged(f"The manifest of {name} could not be read") from None
        if manifest.name != name:
            raise BackupDamaged(f"The manifest of {name} belongs to another backup")
        proof = _PROOF.search(content)
        if proof is not None and proof.end() == len(content):
            signed = content[: proof.start()]
            manifest._authenticated = self._keys.proves(proof[1].decode(), manifest.key, signed)
        return manifest

    def put(self, manifest: Manifest) -> None:
        content = manifest.model_dump_json(indent=1, exclude_none=True)
        proof = self._keys.sign(content.removesuffix("\n}").encode())
        if proof is not None:
            content = content.removesuffix("\n}") + f',\n "mac": "{proof}"\n}}'
            manifest._authenticated = True
        self.place.write(manifest_of(manifest.name), [f"{content}\n".encode()])

    def prune(self, retention: Retention, now: datetime, *, dry_run: bool = False) -> Pruned:
        """Remove expired backups and leftovers.

        The manifest is removed before the data, so that a killed run leaves only data without a manifest.
        """
        leftovers = _leftovers(self.place.entries(FOLDER))
        oldest = now - timedelta(days=retention.days)
        expired = [manifest.name for manifest in self.all()[retention.count :] if manifest.taken_at < oldest]
        pruned = Pruned([], [], [])
        for name in expired:
            removed = dry_run or self._remove(manifest_of(name), data_of(name))
            (pruned.backups if removed else pruned.kept).append(name)
        for name in leftovers:
            (pruned.leftovers if dry_run or self._remove(name) else pruned.kept).append(name)
        return pruned

    def _remove(self, *objects: str) -> bool:
        with suppress(StorageDenied):
            for each in objects:
                self.place.delete(each)
            return True
        return False


def _names(entries: Sequence[Entry]) -> set[str]:
    """Return the names of all backups that have a manifest."""
    manifests = (name_of(entry.name) for entry in entries if entry.name.endswith(".json"))
    return {name for name in manifests if name is not None}


def _leftovers(entries: Sequence[Entry]) -> list[str]:
    """Return old data of unfinished uploads, and old partial files."""
    known = _names(entries)
    oldest = time.time() - LEFTOVER
    return [
        entry.name
        for entry in entries
        if (name_of(entry.name) or entry.name.endswith(".part"))
        and name_of(entry.name) not in known
        and entry.modified is not None
        and entry.modified < oldest
    ]
