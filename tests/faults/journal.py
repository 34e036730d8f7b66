"""The deliveries to the pods of a session, from the pods' own journals (``agent.py``)."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path


@dataclass(slots=True)
class Delivery:
    """One message delivered to one pod, with Unix times. ``end`` is None if the pod did not reach its reply."""

    session: str
    message_id: str
    attempt: int
    pid: int
    start: float
    end: float | None = None


def read_journal(home: Path, session: str) -> list[Delivery]:
    """Return the deliveries of one session in the order of their start."""
    path = home / "journal"
    if not path.exists():
        return []
    deliveries: list[Delivery] = []
    for line in path.read_text("utf-8").splitlines():
        what, message_id, attempt, pid, at = json.loads(line)
        if what == "start":
            deliveries.append(Delivery(session, message_id, attempt, pid, at))
        else:
            _open_one(deliveries, message_id, pid).end = at
    return deliveries


def _open_one(deliveries: list[Delivery], message_id: str, pid: int) -> Delivery:
    return next(each for each in reversed(deliveries) if (each.message_id, each.pid) == (message_id, pid))


def overlaps(deliveries: list[Delivery]) -> int:
    """Count the pairs in which a pod started while another pod was working that later replied."""
    found = 0
    for number, later in enumerate(deliveries):
        for earlier in deliveries[:number]:
            found += earlier.pid != later.pid and earlier.end is not None and earlier.end > later.start
    return found
