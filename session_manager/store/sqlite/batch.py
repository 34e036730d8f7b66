"""Several transactions in one commit: one fsync for all, and a bad one fails alone."""

from __future__ import annotations

import logging
import sqlite3
from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

from session_manager.domain.errors import StoreUnavailable
from session_manager.domain.times import Micros
from session_manager.store.sqlite.connection import Connection, is_own_fault, translated
from session_manager.store.transactions.base import Transaction

logger = logging.getLogger(__name__)

Call: TypeAlias = tuple[Callable[..., Transaction[Any]], tuple[Any, ...], dict[str, Any]]
"""A transaction that waits to be run: called with the time and these arguments it gives the generator."""

Result: TypeAlias = tuple[Any, Exception | None]
"""What one transaction returned, or the error that it ended with."""


def run_batch(connection: Connection, calls: Sequence[Call]) -> list[Result]:
    """Run the calls inside the transaction that was begun on ``connection``, and commit.

    Never raises: when the database itself refuses, nothing is written and every call ends with StoreUnavailable.
    """
    try:
        results = _run_all(connection, calls)
        connection.commit()
    except Exception:
        logger.exception("The database refused a commit", extra={"event": "store.commit_failed"})
        _abandon(connection)
        return [(None, StoreUnavailable())] * len(calls)
    return results


def _abandon(connection: Connection) -> None:
    try:
        connection.rollback()
    except sqlite3.Error:
        # The next BEGIN then fails, and says so to the next callers.
        logger.exception("A rollback failed", extra={"event": "store.rollback_failed"})


def _run_all(connection: Connection, calls: Sequence[Call]) -> list[Result]:
    """Savepoints cost a tenth of the work and hardly ever save anything: only when a call fails are they worth it."""
    try:
        return [(_run(connection, call), None) for call in calls]
    except Exception as error:
        _raise_if_fatal(error)
        connection.rollback()
        connection.begin()
        if len(calls) == 1:
            return [(None, translated(error))]
    return [_run_guarded(connection, call) for call in calls]


def _run_guarded(connection: Connection, call: Call) -> Result:
    """Run one of several, so that what it did can be undone alone."""
    connection.savepoint()
    try:
        value = _run(connection, call)
    except Exception as error:
        _raise_if_fatal(error)
        connection.undo_to_savepoint()
        return None, translated(error)
    connection.release()
    return value, None


def _run(connection: Connection, call: Call) -> Any:
    transaction, args, kwargs = call
    return connection.run(transaction(Micros(connection.clock()), *args, **kwargs))


def _raise_if_fatal(error: Exception) -> None:
    if isinstance(error, sqlite3.Error) and not is_own_fault(error):
        raise error
