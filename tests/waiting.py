"""Wait for a condition, with a deadline."""

from __future__ import annotations

import asyncio
import inspect
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

POLL = 0.01


async def until(condition: Callable[[], Any], seconds: float = 20.0) -> Any:
    """Return the first true result of ``condition``, which may be async. Raises AssertionError after ``seconds``."""
    deadline = time.monotonic() + seconds
    while True:
        result = condition()
        if inspect.isawaitable(result):
            result = await result
        if result:
            return result
        assert time.monotonic() < deadline, f"not within {seconds} s: {inspect.getsource(condition).strip()}"
        await asyncio.sleep(POLL)


def freeze(pid: int) -> None:
    """Stop the process until SIGCONT. Return once none of its threads runs; the signal alone returns earlier."""
    os.kill(pid, signal.SIGSTOP)
    states: set[str] = set()
    while states != {"T"}:
        time.sleep(0.001)
        states = {_state(each) for each in Path(f"/proc/{pid}/task").glob("*/stat")} or {"T"}


def _state(stat: Path) -> str:
    return stat.read_text().rpartition(")")[2].split()[0]
