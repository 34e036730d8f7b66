"""The content of the database, read directly with separate SQL."""

from __future__ import annotations

import asyncio
import sqlite3
from concurrent.futures import Executor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import asyncpg

from tests.servers.postgres import PostgresServer

MESSAGES = (
    "SELECT id, session, seq, text, status, response, error, attempt, deaths, accepted_at, finished_at FROM message"
)
ENDS = "SELECT session, message_id, number FROM session_event WHERE kind IN ('turn.processed', 'turn.failed')"
UNFINISHED = "SELECT count(*) FROM message WHERE finished_at IS NULL"


@dataclass(frozen=True, slots=True)
class Row:
    """One message. Times in microseconds."""

    id: str
    session: str
    seq: int
    text: str
    status: str | None
    response: str | None
    error: str | None
    attempt: int
    deaths: int
    accepted_at: int
    finished_at: int | None


@dataclass(frozen=True, slots=True)
class Records:
    """``ends``: by message, the numbers of the events that end it."""

    messages: list[Row]
    ends: dict[str, list[int]]


class Database(Protocol):
    @property
    def facts(self) -> dict[str, str]:
        """Return the environment variables that name it to a front door."""
        ...

    async def query(self, sql: str) -> list[Any]: ...


class SqliteFile:
    def __init__(self, path: Path) -> None:
        self.path = path

    @property
    def facts(self) -> dict[str, str]:
        return {"CLOUD_RUN_SESSION_DB_PATH": str(self.path)}

    async def query(self, sql: str) -> list[Any]:
        connection = sqlite3.connect(self.path, timeout=30)
        try:
            return connection.execute(sql).fetchall()
        finally:
            connection.close()


class PostgresDatabase:
    """``thread``: the thread that restarts the server, which ends together with this thread."""

    def __init__(self, server: PostgresServer, thread: Executor) -> None:
        self._server = server
        self._thread = thread

    @property
    def facts(self) -> dict[str, str]:
        return {"SESSION_DB_URI": self._server.uri}

    async def kill_and_restart(self) -> None:
        await asyncio.to_thread(self._server.kill)
        await asyncio.get_running_loop().run_in_executor(self._thread, self._server.restart)

    async def query(self, sql: str) -> list[Any]:
        connection = await asyncpg.connect(self._server.uri)
        try:
            return list(await connection.fetch(sql))
        finally:
            await connection.close()


async def unfinished(database: Database) -> int:
    return int((await database.query(UNFINISHED))[0][0])


async def read_records(database: Database) -> Records:
    messages = [Row(*row) for row in await database.query(MESSAGES)]
    ends: dict[str, list[int]] = {}
    for _, message_id, number in await database.query(ENDS):
        ends.setdefault(message_id, []).append(number)
    return Records(messages, ends)
