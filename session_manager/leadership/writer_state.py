"""What a process may do where only one may write. ``writer_guard`` says how it gets from one to the next."""

from __future__ import annotations

from enum import StrEnum
from typing import Protocol


class WriterState(StrEnum):
    WAITING = "waiting"
    OPENING = "opening"
    WRITING = "writing"
    LAPSED = "lapsed"
    LOST = "lost"
    RELEASED = "released"


class WriterReport(Protocol):
    """What metrics tell of the one writer."""

    @property
    def writes(self) -> bool:
        """Whether this process may write now."""
        ...

    @property
    def lag(self) -> float | None:
        """Seconds since everything was in the bucket; None where nothing is shipped."""
        ...
