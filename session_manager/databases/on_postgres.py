"""The ``Database`` on PostgreSQL."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

import asyncpg

from session_manager.databases.database import Column, Kind, Reference, Row, RowRefused, Table, quote
from session_manager.domain.errors import StoreUnavailable
from session_manager.store.postgres.address import PostgresAddress
from session_manager.store.postgres.errors import translated_at_start
from session_manager.store.schema.upgrade import POSTGRES
from session_manager.store.transactions.base import Transaction, run

T = TypeVar("T")

_KINDS = {
    "bigint": Kind.INT,
    "integer": Kind.INT,
    "double precision": Kind.REAL,
    "timestamp without time zone": Kind.TIME,
    "jsonb": Kind.JSON,
}
# Ordered by oid, which grows: a table is created after the tables that it refers to.
_COLUMNS = """
SELECT c.relname, a.attname, format_type(a.atttypid, NULL), a.attnotnull,
    CASE WHEN a.atttypid = 'varchar'::regtype AND a.atttypmod > 4 THEN a.atttypmod - 4 END,
    array_position(i.indkey::int2[], a.attnum)
FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
LEFT JOIN pg_index i ON i.indrelid = c.oid AND i.indisprimary
WHERE c.relkind = 'r' AND c.relnamespace = current_schema()::regnamespace
ORDER BY c.oid, a.attnum
"""
_REFERENCES = """
SELECT c.conrelid::regclass::text, array(SELECT attname::text FROM unnest(c.conkey) WITH ORDINALITY k(n, o)
        JOIN pg_attribute ON attrelid = c.conrelid AND attnum = k.n ORDER BY k.o),
    r.relname, array(SELECT attname::text FROM unnest(c.confkey) WITH ORDINALITY k(n, o)
        JOIN pg_attribute ON attrelid = c.confrelid AND attnum = k.n ORDER BY k.o)
FROM pg_constraint c JOIN pg_class r ON r.oid = c.confrelid
WHERE c.contype = 'f' AND c.connamespace = current_schema()::regnamespace ORDER BY c.oid
"""
_NUMBERED = """
SELECT c.relname, a.attname FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid AND a.attidentity <> ''
WHERE c.relkind = 'r' AND c.relnamespace = current_schema()::regnamespace
"""
_SIZES = """
SELECT relname, pg_total_relation_size(oid) FROM pg_class
WHERE relkind = 'r' AND relnamespace = current_schema()::regnamespace
"""


@dataclass(eq=False)
class PostgresDatabase:
    """A connection to PostgreSQL, made by ``open``."""

    connection: asyncpg.Connection[asyncpg.Record]
    shown: str
    dialect = POSTGRES

    @classmethod
    async def open(cls, address: PostgresAddress, *, read_only: bool, patience: float = 5.0) -> PostgresDatabase:
        """Connect. Raises StartupFailure or StoreUnavailable."""
        settings = {"application_name": "session-manager db", "lock_timeout": str(round(patience * 1000))}
        if read_only:
            settings["default_transaction_read_only"] = "on"
        try:
            connection = await asyncpg.connect(address.uri, timeout=patience, server_settings=settings)
        except Exception as error:
            raise _translated(error, address.shown) from error
        return cls(connection, address.shown)

    async def close(self) -> None:
        await self.connection.close(timeout=5)

    async def tables(self) -> dict[str, Table]:
        with _our_errors(self.shown):
            columns = await self.connection.fetch(_COLUMNS)
            references = await self.connection.fetch(_REFERENCES)
        tables = {}
        for name in dict.fromkeys(row[0] for row in columns):
            own = [row for row in columns if row[0] == name]
            key = tuple(row[1] for row in sorted((row for row in own if row[5] is not None), key=lambda row: row[5]))
            leads = tuple(Reference(tuple(row[1]), row[2], tuple(row[3])) for row in references if row[0] == name)
            tables[name] = Table(name, tuple(_column(row) for row in own), key, key, leads)
        return tables

    async def fetch(self, sql: str, *params: object) -> Sequence[Row]:
        with _our_errors(self.shown):
            return [tuple(row) for row in await self.connection.fetch(sql, *params)]

    async def run(self, transaction: Transaction[T]) -> T:
        with _our_errors(self.shown):
            return await run(transaction, self.connection.fetch)

    async def rows(self, table: Table, after: Sequence[Any] | None = None) -> AsyncIterator[Row]:
        with _our_errors(self.shown):
            async for row in self.connection.cursor(table.ordered(after=bool(after)), *(after or ())):
                yield tuple(row)

    async def insert(self, table: Table, columns: Sequence[str], rows: Sequence[Row]) -> None:
        with _our_errors(self.shown):
            try:
                async with self.connection.transaction():  # a rejected row must not end the caller's
                    await self.connection.copy_records_to_table(table.name, records=rows, columns=list(columns))
            except (asyncpg.IntegrityConstraintViolationError, asyncpg.DataError) as error:
                raise RowRefused(str(error)) from None

    @asynccontextmanager
    async def reading(self) -> AsyncIterator[None]:
        async with self.connection.transaction(isolation="repeatable_read", readonly=True):
            yield

    @asynccontextmanager
    async def writing(self, *, keep: bool = True) -> AsyncIterator[None]:
        transaction = self.connection.transaction()
        await transaction.start()
        try:
            yield
        except BaseException:
            await transaction.rollback()
            raise
        with _our_errors(self.shown):
            await (transaction.commit() if keep else transaction.rollback())

    async def reset_counters(self) -> None:
        for table, column in await self.fetch(_NUMBERED):
            await self.fetch(
                f"SELECT setval(pg_get_serial_sequence($1, $2), coalesce(max({quote(column)}), 0) + 1, false) "  # noqa: S608
                f"FROM {quote(table)}",
                quote(table),
                column,
            )

    async def size(self) -> dict[str, int]:
        whole = await self.fetch("SELECT pg_database_size(current_database())")
        return {"database": whole[0][0], **{row[0]: row[1] for row in await self.fetch(_SIZES)}}


def _column(row: asyncpg.Record) -> Column:
    return Column(row[1], _KINDS.get(row[2], Kind.TEXT), row[3], row[4])


def _translated(error: Exception, shown: str) -> Exception:
    ours = translated_at_start(error, shown)
    return StoreUnavailable(f"{shown} is unavailable") if isinstance(ours, StoreUnavailable) else ours


@contextmanager
def _our_errors(shown: str) -> Iterator[None]:
    """Translate errors of PostgreSQL. Their text names the database ``shown``."""
    try:
        yield
    except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError) as error:
        raise _translated(error, shown) from error
