"""What a process may do where only one may write. ``writer_guard`` says how it gets from one to the next."""

from __future__ import annotations

from enum import StrEnum


class WriterState(StrEnum):
    WAITING = "waiting"
    OPENING = "opening"
    WRITING = "writing"
    LAPSED = "lapsed"
    LOST = "lost"
    RELEASED = "released"
