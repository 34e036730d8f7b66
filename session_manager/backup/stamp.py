"""Which writer wrote a database file last, in a small file beside it: the way to tell a file that is behind."""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path

from session_manager.storage.files import sync_folder

ENDING = ".writer"


@dataclass(frozen=True, slots=True)
class Stamp:
    """Term and holder as in the lease."""

    term: int
    holder: str


NOBODY = Stamp(0, "")


def read_stamp(database: Path) -> Stamp:
    """NOBODY where there is none, or none that can be read."""
    try:
        found = json.loads(_path(database).read_text())
        return Stamp(int(found["term"]), str(found["holder"]))
    except (OSError, ValueError, KeyError, TypeError):
        return NOBODY


def write_stamp(database: Path, stamp: Stamp) -> None:
    """On disk, whole, before anything is written to the database."""
    path = _path(database)
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    part = path.with_name(path.name + ".part")
    with open(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600), "w") as file:  # noqa: PTH123
        json.dump(asdict(stamp), file)
        file.flush()
        os.fsync(file.fileno())
    part.replace(path)
    sync_folder(path.parent)


def _path(database: Path) -> Path:
    return database.with_name(database.name + ENDING)
