"""A store that fails on everything that comes after a commit."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from session_manager.domain.errors import StoreUnavailable
from session_manager.store.sql import SqlStore

# The ways to the database: SQLite has the first two, PostgreSQL all of them. The value says whether it commits.
_WAYS = {"_write": True, "_read": False, "_rows": True}


# Loops of a front door, whose commits have nothing to do with a request.
_LOOPS = {"ready", "repair", "history", "pods", "backups"}


class Failing:
    """Makes ``store`` fail after its next commit, until ``end``. The loops of a front door are not affected."""

    def __init__(self, store: SqlStore) -> None:
        self._store = store
        self.committed = False
        for name, commits in _WAYS.items():
            if hasattr(store, name):
                setattr(store, name, self._failing(getattr(store, name), commits=commits))

    def _failing(self, run: Callable[..., Awaitable[Any]], *, commits: bool) -> Callable[..., Awaitable[Any]]:
        async def failing(*args: Any, **kwargs: Any) -> Any:
            task = asyncio.current_task()
            if task is not None and task.get_name() in _LOOPS:
                return await run(*args, **kwargs)
            if self.committed:
                raise StoreUnavailable
            result = await run(*args, **kwargs)
            if commits:
                self.committed = True
            return result

        return failing

    def end(self) -> None:
        for name in _WAYS:
            vars(self._store).pop(name, None)
