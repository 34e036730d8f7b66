"""How long each step of the event loop took: the longest ones, with what they ran."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest


@dataclass
class Slices:
    """``longest`` has the processor time of each step over ``floor`` seconds, and a description of it."""

    floor: float
    longest: list[tuple[float, str]] = field(default_factory=list)

    def worst(self, count: int = 10) -> list[tuple[float, str]]:
        return sorted(self.longest, reverse=True)[:count]


@contextmanager
def slices(floor: float = 0.005) -> Iterator[Slices]:
    """Note every step of asyncio's own event loop that takes more than ``floor`` seconds of processor time."""
    found = Slices(floor)
    run = asyncio.events.Handle._run

    def timed(handle: asyncio.Handle) -> None:
        where = _where(handle)
        began = time.thread_time()
        run(handle)
        took = time.thread_time() - began
        if took > floor:
            found.longest.append((took, where))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(asyncio.events.Handle, "_run", timed)
        yield found


def _where(handle: asyncio.Handle) -> str:
    """Return the callback of a handle, or the innermost place at which its task goes on."""
    callback: Any = handle._callback  # type: ignore[attr-defined]
    task: Any = getattr(callback, "__self__", None)
    if not isinstance(task, asyncio.Task):
        return str(getattr(callback, "__qualname__", type(callback)))
    coroutine: Any = task.get_coro()
    frames: list[str] = []
    while coroutine is not None and len(frames) < 12:
        frame = getattr(coroutine, "cr_frame", None) or getattr(coroutine, "gi_frame", None)
        if frame is not None:
            frames.append(f"{frame.f_code.co_filename.rpartition('session_manager/')[2]}:{frame.f_lineno}")
        coroutine = getattr(coroutine, "cr_await", None) or getattr(coroutine, "gi_yieldfrom", None)
    return " > ".join(frames[-4:])
