"""What asyncpg and the network raise, as the errors that callers of the store know. No text of theirs is passed on."""

from __future__ import annotations

import ssl

import asyncpg

from session_manager.domain.errors import (
    Conflict,
    InvalidInput,
    SessionManagerError,
    StartupFailure,
    StoreUnavailable,
)

_AWAY = (
    OSError,  # includes TimeoutError: no connection, or none in time
    asyncpg.InterfaceError,  # the connection or the pool was closed under us
    asyncpg.InternalClientError,  # the server said goodbye while the connection was idle: nothing was sent on it
    asyncpg.PostgresConnectionError,
    asyncpg.OperatorInterventionError,  # shutting down, starting, cancelled
    asyncpg.InsufficientResourcesError,  # too many connections, disk full
    asyncpg.LockNotAvailableError,
    asyncpg.TransactionRollbackError,  # serialization failure or deadlock, again after retries
    asyncpg.ReadOnlySQLTransactionError,  # the primary became a standby
    asyncpg.InternalServerError,
)
# Of a statement that was sent: it may have been committed, or may yet be.
IN_DOUBT = (OSError, asyncpg.PostgresConnectionError, asyncpg.OperatorInterventionError)
_BAD_TEXT = (UnicodeEncodeError, asyncpg.CharacterNotInRepertoireError, asyncpg.UntranslatableCharacterError)
# JSON that PostgreSQL does not take (a number out of all bounds, nested too deep), text too long, a time out of range.
_BAD_VALUE = (asyncpg.DataError, asyncpg.ProgramLimitExceededError)
_REFUSED = {
    asyncpg.InvalidAuthorizationSpecificationError: "PostgreSQL refused the user or the password of SESSION_DB_URI",
    asyncpg.InvalidCatalogNameError: "The database that SESSION_DB_URI names does not exist",
    asyncpg.InsufficientPrivilegeError: "The user of SESSION_DB_URI may not create or use the tables",
    asyncpg.InvalidSQLStatementNameError: "The pooler in front of PostgreSQL shares connections between transactions; "
    "let it pool sessions (pool_mode=session), or leave it out: front doors pool by themselves",
    # Before ValueError, which a certificate of another name is as well.
    ssl.SSLError: "The TLS connection to PostgreSQL failed: check sslmode and the certificates",
    ValueError: "SESSION_DB_URI is not a valid PostgreSQL address",
}


class InDoubt(Exception):
    """Nobody said whether a statement was committed."""


def translated(error: Exception) -> Exception:
    """The error of one call. What is nobody's fault but the program's stays as it is."""
    if isinstance(error, SessionManagerError):
        return error
    if isinstance(error, asyncpg.IntegrityConstraintViolationError):
        return Conflict("It exists already, or what it belongs to does not")
    if isinstance(error, _BAD_TEXT) or isinstance(error.__cause__, UnicodeEncodeError):
        return InvalidInput("Text with a NUL or invalid Unicode cannot be stored")
    if isinstance(error, _BAD_VALUE):
        return InvalidInput("It holds a value that the database cannot keep")
    return StoreUnavailable() if isinstance(error, _AWAY) else error


def translated_at_start(error: Exception) -> Exception:
    """The error of the first connection: what no waiting will mend is a StartupFailure."""
    for kind, sentence in _REFUSED.items():
        if isinstance(error, kind):
            return StartupFailure(sentence)
    if isinstance(error, ConnectionError) and "SSL" in str(error):
        return StartupFailure(
            "PostgreSQL does not offer TLS, and SESSION_DB_URI asks for it; one on another machine is used without "
            "only where SESSION_DB_PLAIN_HOSTS names it"
        )
    return translated(error)
