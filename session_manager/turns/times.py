"""How long turns take and wait, since the process began."""

from __future__ import annotations

from dataclasses import dataclass, field

from session_manager.domain.histogram import Histogram

DIED = "died"


def _by_result() -> dict[str, Histogram]:
    return {"processed": Histogram(), "failed": Histogram(), DIED: Histogram()}


@dataclass(frozen=True, slots=True)
class TurnTimes:
    """``queue_wait``: from the accept until a pod is asked for the first time, by the clocks of both machines.

    ``turn``: from when a pod is asked until it has answered, was given up, or died. ``lease_wait``: from asking Redis
    for the turn of a session until it is held; ``lease_hold``: from then until it is given back.
    """

    queue_wait: Histogram = field(default_factory=Histogram)
    turn: dict[str, Histogram] = field(default_factory=_by_result)
    lease_wait: Histogram = field(default_factory=Histogram)
    lease_hold: Histogram = field(default_factory=Histogram)
