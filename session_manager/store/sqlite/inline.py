"""Runs the store's work at once on the caller's own thread, so that no time passes and all runs are the same.

It is for simulations in virtual time, and for tools without concurrent callers. A lock of another process blocks the
caller's event loop.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from typing import Any, TypeVar

from session_manager.domain.errors import StoreUnavailable
from session_manager.store.sqlite.batch import run_batch
from session_manager.store.sqlite.connection import Connection
from session_manager.store.sqlite.readers import read_snapshot
from session_manager.store.transactions.base import Transaction

T = TypeVar("T")


class InlineWriter:
    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    async def submit(self, transaction: Callable[..., Transaction[T]], args: Any, kwargs: Any) -> T:
        try:
            self._connection.begin()
        except sqlite3.Error as error:
            raise StoreUnavailable from error
        [(value, failure)] = run_batch(self._connection, [(transaction, args, kwargs)])
        if failure is not None:
            raise failure
        result: T = value
        return result

    async def close(self) -> None:
        self._connection.close()


class InlineReader:
    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    async def read(self, transaction: Transaction[T]) -> T:
        return read_snapshot(lambda: self._connection, transaction)

    async def close(self) -> None:
        """Do nothing: the writer closes the shared connection."""
