"""A note to the one who writes: that another one waits. For platforms that tell the old instance late or never."""

from __future__ import annotations

import json

from session_manager.domain.errors import StorageMissing
from session_manager.storage.places import Place

NOTE = "session_writer/wanted"


def ask(place: Place, term: int, instance: str) -> None:
    """Of whoever holds the lease in ``term``. Nobody has to answer."""
    place.write(NOTE, [json.dumps({"term": term, "by": instance}).encode()])


def asked(place: Place, term: int) -> str | None:
    """Which instance asked the holder of ``term``; a note for another term is an old one."""
    try:
        note = json.loads(b"".join(place.read(NOTE)))
        return str(note["by"]) if note["term"] == term else None
    except (StorageMissing, ValueError, KeyError, TypeError):
        return None
