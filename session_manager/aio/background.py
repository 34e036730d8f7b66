"""Background tasks: no caller awaits them, and their failures are still reported."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine
from typing import Any

from session_manager.aio.tasks import cancel

log = logging.getLogger(__name__)


def log_failure(error: BaseException, task: str) -> None:
    """Log what ended a background task."""
    log.error("a background task failed", exc_info=error, extra={"event": "task.failed", "task": task})


class Background:
    """Runs tasks beside everything else, and reports each that raises to ``on_failure`` as (error, task name)."""

    def __init__(self, on_failure: Callable[[BaseException, str], None] = log_failure) -> None:
        self._on_failure = on_failure
        self._tasks: set[asyncio.Task[Any]] = set()

    def start(self, work: Coroutine[Any, Any, Any], name: str) -> None:
        self.add(asyncio.create_task(work, name=name))

    def add(self, task: asyncio.Task[Any]) -> None:
        self._tasks.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        error = None if task.cancelled() else task.exception()
        if error is not None:
            self._on_failure(error, task.get_name())

    async def close(self) -> None:
        """Cancel all tasks and wait until they have ended."""
        await cancel(*self._tasks)
