"""Runs several transactions in one commit, with one fsync for all. A transaction that fails does so alone."""

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
"""A transaction to run. Called with the time and these arguments, the function returns the generator."""

Result: TypeAlias = tuple[Any, Exception | None]
"""The result of one transaction, or its error."""


def run_batch(connection: Connection, calls: Sequence[Call]) -> list[Result]:
    """Run the calls inside the transaction that was begun on ``connection``, and commit.

    Never raises: if the database itself fails, nothing is written and all calls end with StoreUnavailable.
    """
    try:
        results = _run_all(connection, calls)
        connection.commit()
    except Exception:
        logger.exception("a commit failed", extra={"event": "store.commit_failed"})
        _abandon(connection)
        return [(None, StoreUnavailable())] * len(calls)
    return results


def _abandon(connection: Connection) -> None:
    try:
        connection.rollback()
    except sqlite3.Error:
        # Then the next BEGIN fails, and so do its callers.
        logger.exception("a rollback failed", extra={"event": "store.rollback_failed"})


def _run_all(connection: Connection, calls: Sequence[Call]) -> list[Result]:
    """Run all calls without savepoints, and again with them if a call fails: they cost a tenth of the work."""
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
    """Run one of several calls so that it can be undone alone."""
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
