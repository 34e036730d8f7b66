"""docs/SESSION_DATABASE_SCHEMA.md from the tables as both engines have them. ``make docs`` writes it.

The meanings stand here; a column without one, or one that is gone, fails the test of the page.
"""

from __future__ import annotations

import asyncio
import sqlite3
import tempfile
from contextlib import closing
from pathlib import Path

import asyncpg

from session_manager.store.postgres.adapter import PostgresStore
from session_manager.store.schema.migrations import all_migrations
from session_manager.store.sqlite.adapter import SqliteStore
from tests.servers.postgres import postgres_server

PAGE = Path(__file__).parents[2] / "docs" / "SESSION_DATABASE_SCHEMA.md"
Types = dict[str, dict[str, str]]
"""Of each table the type of each column, in order."""

TABLES = {
    "session": "One row for each session. It stays for a day after a delete (`deleted_at`): nothing late revives it.",
    "message": "Every accepted message, its attempt and its one result. Accepted is what is on disk here.",
    "session_event": "What the live feed shows, numbered per session in the commit that records it.",
    "adk_note": "Keys that another program made or removed in ADK's tables; triggers write it, the sweep reads it.",
    "artifact": "Artifacts of ADK sessions, every version.",
    "memory": "What ADK's memory search looks through: one row for each event that was added to it.",
    "installation": "What is known of this installation as a whole, by name.",
    "session_manager_schema": "Which migrations were applied. The highest version is the database's.",
    "app_states": "ADK: state that all users of an app share (keys `app:…`, here without the prefix).",
    "user_states": "ADK: state that all sessions of a user in an app share (keys `user:…`, here without the prefix).",
    "sessions": "ADK: its session and state. `session` has a row of the same key (app, user_id, adk_id).",
    "events": "ADK: the events of a session. `event_data` is the event as ADK writes it, in snake_case.",
    "adk_internal_metadata": "ADK: which of its layouts this is. A file has the native one, which is not marked.",
}
_KEY = {"app": "ADK's app name, for sessions made on our own door the class", "user_id": "owner"}
_ADK = {"app_name": "app", "user_id": "user", "state": "JSON object", "update_time": "time of the last change"}
_OURS = "whole microseconds since 1970, UTC"
COLUMNS: dict[str, dict[str, str]] = {
    "session": {
        "uuid": "id of the session everywhere outside ADK: UUIDv4",
        **_KEY,
        "adk_id": "ADK's session id; the uuid where our own door made it. Unique among the living with app, user_id",
        "class_name": "SessionClass of its pod",
        "name": "what people call it",
        "ttl": "microseconds without activity until it expires",
        "created_at": _OURS,
        "last_activity": f"last accept, result or wake; {_OURS}",
        "expires_at": "last_activity + ttl",
        "last_seq": "number of its newest message",
        "last_event": "number of its newest event",
        "woken_at": "first wake, empty: never",
        "expired_at": "since when it is expired, empty: it is not",
        "failed_at": "since when its pod cannot start, empty: it can",
        "failure_reason": "why, in words",
        "failure_remedy": "what to do about it, in words",
        "failure_next_try": "when it is tried again by itself",
        "failure_tries": "how often it was tried",
        "deleted_at": "tombstone: since when it is deleted",
        "purged_at": "when everything of it was gone",
        "adk_told": "number of the last event whose turn is among ADK's `events`",
        "adk_row": "1: it has, or had, a row in ADK's `sessions`",
    },
    "message": {
        "id": "id of the message",
        "session": "session.uuid",
        "seq": "place in its session's order, from 1",
        "caller": "name of the key that sent it",
        "idempotency_key": "what the caller sent as such; unique per session and caller",
        "body_hash": "of the body sent with that key, so that another one under the same key is refused",
        "text": "what was said",
        "accepted_at": _OURS,
        "attempt": "the open attempt; a result counts for this one only",
        "deaths": "pods that died of it",
        "finished_at": "empty: waits or runs",
        "status": "`processed` or `failed`",
        "response": "the pod's reply, JSON",
        "error": "why it failed, in words",
        "adk_kept": "1: its pod writes to the session itself, so that nobody else tells ADK of the turn",
        "payload": "what an ADK run was given beside the text, JSON",
    },
    "session_event": {
        "session": "session.uuid",
        "number": "place in the feed, from 1; the id of the server-sent event",
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
        "mime_type": "of the content",
        "custom_metadata": "JSON object",
        "created_at": "Unix seconds",
    },
    "memory": {
        **_KEY,
        "session": "session.uuid",
        "event_id": "events.id",
        "timestamp": "of the event, Unix seconds",
        "words": "of the event's text in lower case, each between two spaces",
        "data": "the event, JSON",
    },
    "installation": {"name": "what", "value": "its value"},
    "session_manager_schema": {
        "version": "number of the migration",
        "readable_by": "oldest version of the program that can work on this database",
        "applied_at": _OURS,
    },
    "app_states": _ADK,
    "user_states": _ADK,
    "sessions": {**_ADK, "id": "session id within app and user", "create_time": "when it was made"},
    "events": {
        **_ADK,
        "id": "id of the event, unique within its session",
        "session_id": "sessions.id",
        "invocation_id": "turn that it belongs to",
        "timestamp": "order of events; ties by rowid on SQLite, by id on PostgreSQL",
        "event_data": "JSON object",
    },
    "adk_internal_metadata": {"key": "`schema_version`", "value": "`1`"},
}

HEAD = """\
# The schema of the session database

Written by `make docs` from the tables that version {version} of the schema makes, on SQLite and on PostgreSQL; do not
edit it. Times of our own tables are whole microseconds since 1970 (UTC) on both engines; ADK's tables have Unix seconds
on SQLite, and on PostgreSQL timestamps without a zone, in UTC. Text keys of ours compare by bytes. `*` marks the
primary key, `!` a column that is never empty.

Our own tables and ADK's are written in the same commits. ADK's are those that google-adk's services make, of its
SqliteSessionService in a file and of its DatabaseSessionService (version 1) in PostgreSQL, so that either opens the
database beside us. What they make or remove there becomes a session of ours, or ends one, at the next look. Rows of our
own tables are for the API to write, and for nobody else.

## How many sessions were active in the last hour

A session is active when a message was accepted, answered or woke it.

{queries}
`session-manager db stats` tells it as well, and sizes and rows.
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
    """Of a file that the store has made."""
    types: Types = {}
    with closing(sqlite3.connect(path)) as connection:
        names = connection.execute("SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite_%'")
        for (name,) in names.fetchall():
            info = connection.execute('SELECT name, type, "notnull", pk FROM pragma_table_info(?)', (name,))
            types[name] = {each[0]: _marked(each[1], bool(each[3]), bool(each[2])) for each in info.fetchall()}
    return types


async def postgres_types(uri: str) -> Types:
    """Of a database that the store has made."""
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
    """The whole page. KeyError: a table or a column has no meaning yet."""
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
