"""The lines of shipped changes that lie in a place: one for each term of a writer, told by a marker."""

from __future__ import annotations

import json
import re
from contextlib import suppress
from datetime import UTC, datetime

from session_manager.backup.litestream import Line
from session_manager.domain.errors import StorageError
from session_manager.leadership.bucket_lease import Record
from session_manager.storage.places import Place

FOLDER = "session_shipping"
KEPT = 3  # lines, of which the newest is that of the present writer
_NAME = re.compile(r"(\d{12})-[0-9a-f]{8}")


def line_of(place: Place, record: Record) -> Line:
    return Line(place, f"{FOLDER}/{record.term:012d}-{record.holder[:8]}")


def term_of(line: Line) -> int:
    return int(line.name.rpartition("/")[2].partition("-")[0])


def announce(line: Line, record: Record) -> None:
    """That this line exists. Before anything is shipped to it."""
    about = {"term": record.term, "instance": record.instance, "since": datetime.now(UTC).isoformat(timespec="seconds")}
    line.place.write(f"{line.name}.json", [json.dumps(about).encode()])


def all_lines(place: Place) -> list[Line]:
    """Newest first."""
    names = (entry.name.rpartition("/")[2].removesuffix(".json") for entry in place.entries(FOLDER))
    return [Line(place, f"{FOLDER}/{name}") for name in sorted(names, reverse=True) if _NAME.fullmatch(name)]


def forget_old(place: Place) -> int:
    """Remove all but the newest lines; what the place does not let go stays. How many went."""
    gone = 0
    for line in all_lines(place)[KEPT:]:
        with suppress(StorageError), place.errors():
            with suppress(FileNotFoundError):
                place.fs.rm(place.path(line.name), recursive=True)
            place.delete(f"{line.name}.json")
            gone += 1
    return gone
