"""Build docs/SESSION_DATABASE_SCHEMA.md from the tables of both engines. ``make docs`` writes it.

This file holds the meanings. A column without a meaning, or a meaning without a column, fails the test of the page.
"""

from __future__ import annotations

import asyncio
import sqlite3
import tempfile
from contextlib import closing
from pathlib import Path

import asyncpg

from session_manager.store.postgres.adapter import PostgresStore
from session_manager.store.schema.upgrade import all_migrations
from session_manager.store.sqlite.adapter import SqliteStore
from tests.servers.postgres import postgres_server

PAGE = Path(__file__).parents[2] / "docs" / "SESSION_DATABASE_SCHEMA.md"
Types = dict[str, dict[str, str]]
"""The type of each column, in order, by table."""

TABLES = {
    "session": "One row per session. It is kept for a day after a delete (`deleted_at`): nothing late revives it.",
    "message": "Every accepted message, its attempt and its one result. Accepted means that the row is on disk.",
    "session_event": "The events of the live feed, numbered per session in the commit that records them.",
    "adk_note": "Keys that another program created or removed in ADK's tables. Triggers write it, the sweep reads it.",
    "artifact": "Every version of the artifacts of ADK sessions.",
    "memory": "The content of ADK's memory search: one row for each event that was added to it.",
    "user_usage": "What each user has, for their quotas. Triggers on the other tables write it.",
    "installation": "Facts about the whole installation, by name.",
    "session_manager_schema": "The migrations that were applied. The highest version is the version of the database.",
    "app_states": "ADK: state that all users of an app share (keys `app:…`, stored without the prefix).",
    "user_states": "ADK: state that all sessions of a user in an app share (keys `user:…`, stored without the prefix).",
    "sessions": "ADK: its sessions and their state. `session` has a row with the same key (app, user_id, adk_id).",
    "events": "ADK: the events of a session. `event_data` is the event in ADK's own form, in snake_case.",
    "adk_internal_metadata": "ADK: the version of its layout. The native layout of a SQLite file has no marker.",
}
_KEY = {"app": "ADK's app name; the class, for sessions created on our own routes", "user_id": "owner"}
_ADK = {"app_name": "app", "user_id": "user", "state": "JSON object", "update_time": "time of the last change"}
_OURS = "whole microseconds since 1970, UTC"
COLUMNS: dict[str, dict[str, str]] = {
    "session": {
        "uuid": "id of the session everywhere outside ADK, a UUIDv4",
        **_KEY,
        "adk_id": "ADK's session id, or the uuid. Unique with app and user_id unless deleted",
        "class_name": "SessionClass of its pod",
        "name": "display name",
        "ttl": "microseconds without activity until it expires",
        "created_at": _OURS,
        "last_activity": f"last accept, result or wake; {_OURS}",
        "expires_at": "last_activity + ttl",
        "last_seq": "number of its newest message",
        "last_event": "number of its newest event",
        "woken_at": "first wake; empty: never woken",
        "expired_at": "time of expiry; empty: not expired",
        "failed_at": "since when its pod cannot start; empty: it can",
        "failure_reason": "why its pod cannot start",
        "failure_remedy": "what to do about it",
        "failure_next_try": "time of the next automatic retry",
        "failure_tries": "number of tries",
        "deleted_at": "time of the delete; the row is then a tombstone",
        "purged_at": "when its pod, keys and files were removed",
        "adk_told": "number of the last event whose turn is in ADK's `events`",
        "adk_row": "1: it has or had a row in ADK's `sessions`",
        "bytes": "size of its messages, replies, events and ADK events",
        "charged": "as much of `bytes` as `user_usage` has; it follows in steps of 64 KiB",
    },
    "message": {
        "id": "id of the message",
        "session": "session.uuid",
        "seq": "position in its session, from 1",
        "caller": "name of the key that sent it",
        "idempotency_key": "the caller's Idempotency-Key; unique per session and caller",
        "body_hash": "hash of the body sent with that key, so that another body with the same key is rejected",
        "text": "text of the message",
        "accepted_at": _OURS,
        "attempt": "the current attempt; only its result is accepted",
        "deaths": "number of pods that died while running it",
        "finished_at": "time of the result; empty: waiting or running",
        "status": "`processed` or `failed`",
        "response": "the pod's reply, JSON",
        "error": "why it failed",
        "adk_kept": "1: its pod writes ADK's events itself, so no front door writes them",
        "payload": "the rest of an ADK run's request, JSON",
        "trace": "the trace context of its request",
    },
    "session_event": {
        "session": "session.uuid",
        "number": "position in the feed, from 1; the id of the server-sent event",
        "kind": "name of the event",
        "message_id": "message it belongs to",
        "data": "JSON",
        "created_at": _OURS,
    },
    "adk_note": {"number": "order", "app": "app_name", "user_id": "user_id", "adk_id": "id"},
    "artifact": {
        **_KEY,
        "session": "session.uuid; empty: shared by all sessions of the user in the app",
        "name": "file name",
        "version": "from 0",
        "part": "ADK's Part, JSON",
        "mime_type": "type of the content",
        "custom_metadata": "JSON object",
        "created_at": "Unix seconds",
    },
    "memory": {
        **_KEY,
        "session": "session.uuid",
        "event_id": "events.id",
        "timestamp": "time of the event, Unix seconds",
        "words": "words of the event's text in lower case, each between two spaces",
        "data": "the event, JSON",
    },
    "user_usage": {
        "user_id": "owner",
        "sessions": "sessions that are neither deleted nor expired",
        "bytes": "charged bytes of sessions, and size of artifacts, memory and the user's state",
    },
    "installation": {"name": "name of the fact", "value": "its value"},
    "session_manager_schema": {
        "version": "number of the migration",
        "readable_by": "oldest version of the program that can work on this database",
        "applied_at": _OURS,
    },
    "app_states": _ADK,
    "user_states": _ADK,
    "sessions": {**_ADK, "id": "session id within app and user", "create_time": "time of creation"},
    "events": {
        **_ADK,
        "id": "id of the event, unique within its session",
        "session_id": "sessions.id",
        "invocation_id": "turn it belongs to",
        "timestamp": "order of the events; ties by rowid on SQLite, by id on PostgreSQL",
        "event_data": "JSON object",
    },
    "adk_internal_metadata": {"key": "`schema_version`", "value": "`1`"},
}

HEAD = """\
# Schema of the session database

For people who read the tables, with SQL or a tool. Afterwards you know every column on both engines. Do not edit this
page: `make docs` writes it from the tables of schema version {version}.

- Times in our own tables are integer microseconds since 1970 (UTC) on both engines. ADK's tables have Unix seconds on
  SQLite, and on PostgreSQL timestamps without a zone, in UTC.
- Text keys in our own tables compare by bytes.
- `*` marks the primary key, `!` a column that is never empty.

The same commits write our own tables and ADK's. ADK's tables are those of google-adk's services: SqliteSessionService
for a file, DatabaseSessionService (version 1) for PostgreSQL. So either service can open the database while front doors
use it. Sessions that it creates or removes are added or deleted here soon afterwards. Only the API may write our own
tables.

## Count the sessions that were active in the last hour

A session is active when a message is accepted or answered, or when it is woken.

{queries}
`session-manager db stats` shows this number as well, and sizes and rows.
"""
QUERIES = {
    "SQLite, all sessions": """\
SELECT count(*) FROM session
WHERE deleted_at IS NULL AND last_activity >= (strftime('%s', 'now') - 3600) * 1000000;""",
    "PostgreSQL, all sessions": """\
SELECT count(*) FROM session
WHERE deleted_at IS NULL AND last_activity >= (extract(epoch FROM now()) - 3600) * 1000000;""",
    "SQLite, ADK's own rows": """\
SELECT count(*) FROM sessions WHERE update_time >= strftime('%s', 'now') - 3600;""",
    "PostgreSQL, ADK's own rows": """\
SELECT count(*) FROM sessions WHERE update_time >= (now() AT TIME ZONE 'UTC') - interval '1 hour';""",
}

_POSTGRES_TYPES = """
SELECT c.relname, a.attname, format_type(a.atttypid, a.atttypmod), a.attnotnull,
    EXISTS (SELECT 1 FROM pg_index i WHERE i.indrelid = c.oid AND i.indisprimary AND a.attnum = ANY (i.indkey))
FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
WHERE c.relkind = 'r' AND c.relnamespace = 'public'::regnamespace ORDER BY c.relname, a.attnum
"""


def sqlite_types(path: Path) -> Types:
    """Return the types in a file that the store has created."""
    types: Types = {}
    with closing(sqlite3.connect(path)) as connection:
        names = connection.execute("SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite_%'")
        for (name,) in names.fetchall():
            info = connection.execute('SELECT name, type, "notnull", pk FROM pragma_table_info(?)', (name,))
            types[name] = {each[0]: _marked(each[1], bool(each[3]), bool(each[2])) for each in info.fetchall()}
    return types


async def postgres_types(uri: str) -> Types:
    """Return the types in a database that the store has created."""
    connection = await asyncpg.connect(uri)
    try:
        rows = await connection.fetch(_POSTGRES_TYPES)
    finally:
        await connection.close()
    types: Types = {}
    for name, column, kind, required, key in rows:
        short = kind.replace("without time zone", "").replace("character varying", "varchar").strip()
        types.setdefault(name, {})[column] = _marked(short, key, required)
    return types


def _marked(kind: str, key: bool, required: bool) -> str:
    return kind.lower() + (" *" if key else " !" if required else "")


async def types_of_both(folder: Path, uri: str) -> tuple[Types, Types]:
    path = folder / "sessions.db"
    for store in (SqliteStore(path), PostgresStore(uri, 1)):
        await store.start()
        await store.close()
    return sqlite_types(path), await postgres_types(uri)


def page(sqlite: Types, postgres: Types) -> str:
    """Return the page. Raises KeyError if a table or a column has no meaning yet."""
    queries = "".join(f"{title}:\n\n```sql\n{query}\n```\n\n" for title, query in QUERIES.items())
    lines = [HEAD.format(version=all_migrations()[-1].version, queries=queries)]
    for name, meaning in TABLES.items():
        lines += [f"## {name}", "", meaning, "", "| column | SQLite | PostgreSQL | meaning |", "|---|---|---|---|"]
        for column in {**sqlite.get(name, {}), **postgres[name]}:
            here = sqlite.get(name, {}).get(column, "")
            lines.append(f"| `{column}` | {here} | {postgres[name][column]} | {COLUMNS[name][column]} |")
        lines.append("")
    return "\n".join(lines)


async def _write(uri: str) -> None:
    with tempfile.TemporaryDirectory() as folder:
        PAGE.write_text(page(*await types_of_both(Path(folder), uri)), "utf-8")


if __name__ == "__main__":
    with postgres_server() as server:
        asyncio.run(_write(server.uri))
