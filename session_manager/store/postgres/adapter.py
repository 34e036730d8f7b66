"""The ``Store`` on PostgreSQL.

A connection is held for one transaction only. A call that gets no connection within the patience fails with
StoreUnavailable.
"""

# ruff: noqa: S608  the SQL is built from constants; values are parameters
from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Concatenate, ParamSpec, TypeAlias, TypeVar

import asyncpg

from session_manager.domain.access import Access, Everything, OwnedBy
from session_manager.domain.adk.model import AdkTurn, AdoptAs
from session_manager.domain.errors import (
    Conflict,
    IdempotencyMismatch,
    OutcomeUnknown,
    QuotaExceeded,
    SessionManagerError,
    StoreCannotWrite,
    StoreUnavailable,
)
from session_manager.domain.message import Accepted, NewMessage, Outcome, StoredEvent
from session_manager.domain.quota import NO_QUOTAS, Quota, Quotas
from session_manager.domain.times import Micros
from session_manager.store.postgres.address import PostgresAddress
from session_manager.store.postgres.errors import IN_DOUBT, translated, translated_at_start
from session_manager.store.schema.upgrade import POSTGRES, Migration, all_migrations, is_current, upgrade
from session_manager.store.sql import SqlStore, default_class
from session_manager.store.transactions import messages, usage
from session_manager.store.transactions.base import SESSION, SESSION_WIDTH, Transaction, in_postgres, run, session_of

if TYPE_CHECKING:
    from asyncpg.pool import PoolConnectionProxy

_NOW = "SELECT (extract(epoch FROM clock_timestamp()) * 1000000)::bigint AS at"

# The two transactions of each turn as single statements: one round trip instead of five. They write the same rows as
# ``transactions/messages.py``. Like all transactions here they lock the session's row first, so that no deadlock is
# possible. The parts of a statement share one snapshot, but a row that another transaction had locked is read again, so
# that the conditions hold for the row that is written.

# No row: the session is unknown or deleted, or the Idempotency-Key is known. A second statement finds out which.
# Or a quota may be exceeded: the conditions here are stricter than those of ``usage.py``, and cheap. They are exact
# for simultaneous calls too: what they know of the session's row is read again, and what they know of messages is old.
# 1 id, 2 session, 3 caller, 4 idempotency key, 5 body hash, 6 text, 7 owner, 8 payload, 9 trace, 10 bytes, 11 step
# or NULL, 12 unfinished messages of a session or NULL, 13 of a user or NULL, 14 and 15 ``usage.limits_of_bytes``
_OF_SAME_USER = """
SELECT count(*) FROM session AS own JOIN message AS waiting ON waiting.session = own.uuid
WHERE own.user_id = session.user_id AND own.deleted_at IS NULL AND waiting.finished_at IS NULL
"""
_ACCEPT = f"""
WITH now AS MATERIALIZED ({_NOW}),
before AS MATERIALIZED (
    SELECT coalesce(min(message.seq), session.last_seq + 1) AS lowest,
        CASE WHEN count(message.seq) > 0 AND $13::bigint IS NOT NULL THEN ({_OF_SAME_USER}) END AS of_user
    FROM session LEFT JOIN message ON message.session = session.uuid AND message.finished_at IS NULL
    WHERE session.uuid = $2 GROUP BY session.uuid
), touched AS (
    UPDATE session SET last_seq = last_seq + 1, last_activity = now.at, expires_at = now.at + ttl, expired_at = NULL,
        bytes = bytes + $10
    FROM now, before
    WHERE uuid = $2 AND deleted_at IS NULL AND ($7::text IS NULL OR user_id = $7)
    AND ($4::text IS NULL OR NOT EXISTS (
        SELECT 1 FROM message WHERE session = $2 AND caller = $3 AND idempotency_key = $4))
    AND ($11::bigint IS NULL OR bytes + $10 - charged < $11)
    AND ($12::bigint IS NULL OR last_seq + 1 - before.lowest < $12)
    AND ($13::bigint IS NULL OR last_seq + 1 = before.lowest OR before.of_user < $13)
    AND ($14::bigint IS NULL OR coalesce(($15::jsonb ->> user_id)::bigint, $14)
        >= coalesce((SELECT known.bytes FROM user_usage AS known WHERE known.user_id = session.user_id), 0))
    RETURNING {SESSION}, last_seq, now.at
), added AS (
    INSERT INTO message (id, session, seq, caller, idempotency_key, body_hash, text, accepted_at, payload, trace)
    SELECT $1, uuid, last_seq, $3, $4, $5, $6, at, $8, $9 FROM touched
)
SELECT touched.*, (SELECT min(seq) FROM message WHERE session = $2 AND finished_at IS NULL) FROM touched
"""
_SEQ, _ACCEPTED_AT, _LOWEST = SESSION_WIDTH, SESSION_WIDTH + 1, SESSION_WIDTH + 2

# 1 message, 2 attempt or NULL, 3 status, 4 response, 5 error, 6 kinds and 7 data of the events, 8 bytes of all
_RECORD = f"""
WITH now AS MATERIALIZED ({_NOW}),
locked AS MATERIALIZED (
    SELECT uuid FROM session WHERE uuid = (SELECT session FROM message WHERE id = $1) FOR NO KEY UPDATE
), finished AS (
    UPDATE message SET finished_at = now.at, status = $3, response = $4, error = $5
    FROM locked, now
    WHERE id = $1 AND session = locked.uuid AND finished_at IS NULL AND ($2::bigint IS NULL OR attempt = $2)
    RETURNING session
), touched AS (
    UPDATE session
    SET last_activity = now.at, expires_at = now.at + ttl, last_event = last_event + cardinality($6::text[]),
        bytes = bytes + $8
    FROM finished, now
    WHERE uuid = finished.session
    RETURNING uuid, last_event, now.at, bytes - charged AS uncharged
), stored AS (
    INSERT INTO session_event (session, number, kind, message_id, data, created_at)
    SELECT uuid, last_event - cardinality($6::text[]) + event.n, event.kind, $1, event.data, at
    FROM touched, unnest($6::text[], $7::text[]) WITH ORDINALITY AS event (kind, data, n)
)
SELECT uuid, last_event, at, uncharged FROM touched
"""

log = logging.getLogger(__name__)

T = TypeVar("T")
P = ParamSpec("P")
Record: TypeAlias = asyncpg.Record
Connection: TypeAlias = "PoolConnectionProxy[Record]"

_MOST_AT_ONCE = 200  # accepts of one user that commit at once; so far below the limit they need no look at each other
_TRIES = 3  # of a transaction that PostgreSQL aborted to break a deadlock
_LOOK_AGAIN = 0.2  # seconds between tries to find out whether a commit succeeded
_IDLE = 300  # seconds until an unused connection is closed, before some firewall forgets it
_SILENCE = 6  # patiences after which a silent server is unavailable
_SYNCHRONOUS = """
SELECT set_config('synchronous_commit', 'on', false) WHERE current_setting('synchronous_commit') = 'off'
"""


@dataclass(eq=False)
class PostgresStore(SqlStore):
    """``address`` is as libpq knows it, ``pool`` the most connections, ``patience`` in seconds for one or a lock."""

    address: str = field(repr=False)
    pool: int
    patience: float = 5.0
    migrations: Sequence[Migration] | None = None
    adopt_as: AdoptAs = default_class
    quotas: Quotas = NO_QUOTAS
    _pool: asyncpg.Pool | None = field(default=None, init=False)
    _shown: str = field(init=False)
    _least: Quota = field(init=False)
    _stored: tuple[int | None, str | None] = field(init=False)

    def __post_init__(self) -> None:
        self._least, self._stored = self.quotas.smallest, usage.limits_of_bytes(self.quotas)
        self._shown = PostgresAddress.parse(self.address, "*").shown

    @property
    def uri(self) -> str:
        return self._shown

    async def start(self) -> None:
        try:
            self._pool = await self._connect()
            migrations = self.migrations or all_migrations()
            if not await self._read(is_current, POSTGRES, migrations):
                await self._write(upgrade, POSTGRES, migrations)
        except BaseException as error:
            await self.close()
            if isinstance(error, Exception):
                raise translated_at_start(error) from error
            raise

    async def _connect(self) -> asyncpg.Pool:
        return await asyncpg.create_pool(
            self.address,
            min_size=1,
            max_size=self.pool,
            max_inactive_connection_lifetime=_IDLE,
            timeout=self.patience,
            command_timeout=self.patience * _SILENCE,
            init=_make_durable,
            reset=_keep,
            server_settings={
                "application_name": "session-manager",
                "default_transaction_isolation": "read committed",
                "jit": "off",
                "lock_timeout": str(round(self.patience * 1000)),
            },
        )

    async def close(self) -> None:
        pool, self._pool = self._pool, None
        if pool is None:
            return
        try:
            async with asyncio.timeout(self.patience):
                await pool.close()
        except (TimeoutError, asyncpg.InterfaceError):
            pool.terminate()

    async def now(self) -> Micros:
        with self._our_errors():
            async with self._connection() as connection:
                return Micros(await connection.fetchval(_NOW))

    # The two operations of each turn, in one round trip each

    async def accept(self, new: NewMessage, access: Access) -> Accepted:
        try:
            return await self._accept(new, access)
        except OutcomeUnknown:
            return await self._resolve(new, access)

    async def _accept(self, new: NewMessage, access: Access) -> Accepted:
        if not isinstance(access, Everything | OwnedBy) or access.classes is not None:
            return await super().accept(new, access)
        owner = access.user if isinstance(access, OwnedBy) else None
        key = (new.id, new.session, new.caller, new.idempotency_key, new.body_hash)
        try:
            rows = await self._rows(_ACCEPT, *key, new.text, owner, new.payload, new.trace, *self._limits(new))
        except Conflict:
            rows = []
        if not rows:
            # Unknown, deleted, or a known Idempotency-Key: the full transaction finds out which, and resolves a race.
            return await super().accept(new, access)
        row = rows[0]
        seq, at, lowest = row[_SEQ], row[_ACCEPTED_AT], row[_LOWEST]
        return messages.accepted(new, session_of(row), seq, seq if lowest is None else lowest, at)

    def _limits(self, new: NewMessage) -> tuple[int | str | None, ...]:
        """Return the bytes of the message, and the limits below which it is accepted without a look at its user."""
        least = self._least
        step = usage.STEP if least.stored else None
        of_user = least.messages - _MOST_AT_ONCE if least.messages else None
        return usage.size(new.text, new.payload), step, least.session_messages or None, of_user, *self._stored

    async def _resolve(self, new: NewMessage, access: Access) -> Accepted:
        """Accept a message that may have been accepted already. With the same id it cannot be accepted twice.

        Callers expect that only a known Idempotency-Key can be answered twice, so this waits as long as for any other
        answer.
        """
        loop = asyncio.get_running_loop()
        deadline = loop.time() + self.patience * _SILENCE
        while True:
            try:
                return await self._read(messages.find_accepted, new) or await super().accept(new, access)
            except IdempotencyMismatch:
                raise
            except QuotaExceeded:  # the first try has ended by now, and its message counts if it was committed
                found = await self._read(messages.find_accepted, new)
                if found is None:
                    raise
                return found
            except (Conflict, StoreUnavailable):  # Conflict: the first try has just been committed
                if loop.time() > deadline:
                    log.error("it is unknown whether a message was accepted", extra={"event": "store.in_doubt"})
                    raise OutcomeUnknown from None
            await asyncio.sleep(_LOOK_AGAIN)

    async def _record(
        self,
        message_id: str,
        attempt: int | None,
        outcome: Outcome,
        events: Sequence[tuple[str, str]] = (),
        adk: AdkTurn | None = None,
    ) -> list[StoredEvent] | None:
        end = (message_id, attempt, outcome, events)
        done = await (self._record_alone(*end) if adk is None else self._write(messages.record_locked, *end, adk))
        if done is None or done.uncharged >= usage.STEP:  # None: an earlier try may have been cut off before this
            with contextlib.suppress(SessionManagerError):  # the next message of the session makes up for it
                await self._rows(usage.REPORT_OF_MESSAGE, message_id)
        return done and done.events

    async def _record_alone(
        self, message_id: str, attempt: int | None, outcome: Outcome, events: Sequence[tuple[str, str]]
    ) -> messages.Recorded | None:
        kinds, data = [kind for kind, _ in events], [data for _, data in events]
        result = (outcome.status.value, outcome.response, messages.cleaned_error(outcome.error))
        rows = await self._rows(_RECORD, message_id, attempt, *result, kinds, data, messages.size_of_end(outcome, data))
        if not rows:
            return None
        session, last, at, uncharged = rows[0]
        return messages.Recorded(session, messages.numbered_events(message_id, events, last, at), uncharged)

    # How transactions run

    async def _write(
        self, transaction: Callable[Concatenate[Micros, P], Transaction[T]], *args: P.args, **kwargs: P.kwargs
    ) -> T:
        """Run in read committed: a statement sees everything committed before it. Retry after a deadlock."""
        with self._our_errors():
            for _ in range(_TRIES - 1):
                with contextlib.suppress(asyncpg.TransactionRollbackError):
                    return await self._write_once(transaction, *args, **kwargs)
            return await self._write_once(transaction, *args, **kwargs)

    async def _write_once(
        self, transaction: Callable[Concatenate[Micros, P], Transaction[T]], *args: P.args, **kwargs: P.kwargs
    ) -> T:
        async with self._connection() as connection:
            done = False
            try:
                async with connection.transaction():
                    now = Micros(await connection.fetchval(_NOW))
                    result = await _run(connection, transaction(now, *args, **kwargs))
                    done = True
                return result
            except IN_DOUBT as error:
                if done:
                    raise OutcomeUnknown from error
                raise

    async def _read(self, transaction: Callable[P, Transaction[T]], *args: P.args, **kwargs: P.kwargs) -> T:
        """Run without a transaction: each statement has its own snapshot."""
        with self._our_errors():
            async with self._connection() as connection:
                return await _run(connection, transaction(*args, **kwargs))

    async def _rows(self, sql: str, *params: object) -> list[Record]:
        """Run one statement and commit it."""
        with self._our_errors():
            async with self._connection() as connection:
                try:
                    return await connection.fetch(sql, *params)
                except IN_DOUBT as error:
                    raise OutcomeUnknown from error

    @contextlib.contextmanager
    def _our_errors(self) -> Iterator[None]:
        try:
            yield
        except Exception as error:
            ours = translated(error)
            self._disk_failed |= isinstance(ours, StoreCannotWrite)
            if ours is error:
                raise
            raise ours from error

    def _connection(self) -> AbstractAsyncContextManager[Connection]:
        if self._pool is None:
            raise StoreUnavailable
        return self._pool.acquire(timeout=self.patience)


async def _run(connection: Connection, transaction: Transaction[T]) -> T:
    return await run(transaction, lambda sql, *params: connection.fetch(in_postgres(sql), *params))


async def _make_durable(connection: asyncpg.Connection[Record]) -> None:
    """Make commits wait until they are on disk, whatever the server's default is."""
    await connection.execute(_SYNCHRONOUS)


async def _keep(connection: asyncpg.Connection[Record]) -> None:
    """Skip asyncpg's reset between uses: transactions leave nothing behind, and a reset is a round trip."""
