"""Translates errors of asyncpg and the network into the store's errors, without their texts."""

from __future__ import annotations

import ssl

import asyncpg

from session_manager.domain.errors import (
    Conflict,
    InvalidInput,
    SessionManagerError,
    StartupFailure,
    StoreCannotWrite,
    StoreUnavailable,
)
from session_manager.store.postgres.address import INVALID, SETTING

_AWAY = (
    OSError,  # includes TimeoutError: no connection, or not in time
    asyncpg.InterfaceError,  # the connection or the pool was closed meanwhile
    asyncpg.InternalClientError,  # the server closed an idle connection, on which nothing was sent
    asyncpg.PostgresConnectionError,
    asyncpg.OperatorInterventionError,  # shutting down, starting, cancelled
    asyncpg.InsufficientResourcesError,  # too many connections
    asyncpg.LockNotAvailableError,
    asyncpg.TransactionRollbackError,  # serialization failure or deadlock, again after retries
    asyncpg.ReadOnlySQLTransactionError,  # the primary became a standby
    asyncpg.InternalServerError,
)
# After these errors a statement that was sent may have been committed, or may still be.
IN_DOUBT = (OSError, asyncpg.PostgresConnectionError, asyncpg.OperatorInterventionError)
_BAD_TEXT = (UnicodeEncodeError, asyncpg.CharacterNotInRepertoireError, asyncpg.UntranslatableCharacterError)
# JSON that PostgreSQL rejects (a number out of range, nested too deep), text too long, a time out of range.
_BAD_VALUE = (asyncpg.DataError, asyncpg.ProgramLimitExceededError)
_REFUSED = {
    asyncpg.InvalidAuthorizationSpecificationError: "PostgreSQL rejected the user or the password of {}",
    asyncpg.InvalidCatalogNameError: "the database of {} does not exist",
    asyncpg.InsufficientPrivilegeError: "the user of {} may not create or use the tables",
    asyncpg.InvalidSQLStatementNameError: "the pooler in front of PostgreSQL shares connections between transactions; "
    "set pool_mode=session, or connect without it: front doors have their own pools",
    # Before ValueError, because a certificate for another name is one too.
    ssl.SSLError: "the TLS connection to PostgreSQL failed; check sslmode and the certificates",
    ValueError: INVALID,
}


def translated(error: Exception) -> Exception:
    """Return the store's error for one call. A bug of the program stays as it is."""
    if isinstance(error, SessionManagerError):
        return error
    if isinstance(error, asyncpg.IntegrityConstraintViolationError):
        return Conflict("it already exists, or the object that it belongs to does not")
    if isinstance(error, _BAD_TEXT) or isinstance(error.__cause__, UnicodeEncodeError):
        return InvalidInput("text with a NUL or invalid Unicode cannot be stored")
    if isinstance(error, _BAD_VALUE):
        return InvalidInput("it contains a value that the database cannot store")
    if isinstance(error, asyncpg.DiskFullError):
        return StoreCannotWrite("The disk of the database is full; nothing was stored")
    return StoreUnavailable() if isinstance(error, _AWAY) else error


def translated_at_start(error: Exception, address: str = SETTING) -> Exception:
    """Return the error of the first connection: a StartupFailure if trying again is useless.

    The text calls the address ``address``.
    """
    for kind, sentence in _REFUSED.items():
        if isinstance(error, kind):
            return StartupFailure(sentence.format(address))
    if isinstance(error, ConnectionError) and "SSL" in str(error):
        return StartupFailure(
            f"PostgreSQL does not offer TLS, which {address} requires; to connect to another machine without TLS, "
            "list its host in SESSION_DB_PLAIN_HOSTS"
        )
    return translated(error)
