"""The two transactions of every turn, each as one statement: one round trip instead of five.

They write what ``transactions/messages.py`` writes. Both take the session's row first, as every transaction here does,
so that none can wait for another in a circle. The parts of a statement see one snapshot, but a row that was locked by
somebody else is read again when the lock is had: the conditions on it hold for what is written.
"""

# ruff: noqa: S608  the SQL is put together from constants; values are parameters
from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate

from session_manager.domain.adk.model import AdkTurn
from session_manager.domain.times import micros
from session_manager.store.transactions.rows import SESSION, SESSION_WIDTH

NOW = "SELECT (extract(epoch FROM clock_timestamp()) * 1000000)::bigint AS at"

# No row: the session is unknown or deleted, or the Idempotency-Key is known. Which of them is asked afterwards, rarely.
# 1 id, 2 session, 3 caller, 4 idempotency key, 5 body hash, 6 text, 7 owner, 8 payload
ACCEPT = f"""
WITH now AS MATERIALIZED ({NOW}),
touched AS (
    UPDATE session SET last_seq = last_seq + 1, last_activity = now.at, expires_at = now.at + ttl, expired_at = NULL
    FROM now
    WHERE uuid = $2 AND deleted_at IS NULL AND ($7::text IS NULL OR user_id = $7)
    AND ($4::text IS NULL OR NOT EXISTS (
        SELECT 1 FROM message WHERE session = $2 AND caller = $3 AND idempotency_key = $4))
    RETURNING {SESSION}, last_seq, now.at
), added AS (
    INSERT INTO message (id, session, seq, caller, idempotency_key, body_hash, text, accepted_at, payload)
    SELECT $1, uuid, last_seq, $3, $4, $5, $6, at, $8 FROM touched
)
SELECT touched.*, (SELECT min(seq) FROM message WHERE session = $2 AND finished_at IS NULL) FROM touched
"""
SEQ, ACCEPTED_AT, LOWEST = SESSION_WIDTH, SESSION_WIDTH + 1, SESSION_WIDTH + 2

# 1 message, 2 attempt or NULL, 3 status, 4 response, 5 error, 6 kinds and 7 data of the events
_RECORDED = f"""
WITH now AS MATERIALIZED ({NOW}),
locked AS MATERIALIZED (
    SELECT uuid FROM session WHERE uuid = (SELECT session FROM message WHERE id = $1) FOR NO KEY UPDATE
), finished AS (
    UPDATE message SET finished_at = now.at, status = $3, response = $4, error = $5
    FROM locked, now
    WHERE id = $1 AND session = locked.uuid AND finished_at IS NULL AND ($2::bigint IS NULL OR attempt = $2)
    RETURNING session
), touched AS (
    UPDATE session
    SET last_activity = now.at, expires_at = now.at + ttl, last_event = last_event + cardinality($6::text[])
    FROM finished, now
    WHERE uuid = finished.session
    RETURNING uuid, app, user_id, adk_id, last_event, now.at
), stored AS (
    INSERT INTO session_event (session, number, kind, message_id, data, created_at)
    SELECT uuid, last_event - cardinality($6::text[]) + event.n, event.kind, $1, event.data, at
    FROM touched, unnest($6::text[], $7::text[]) WITH ORDINALITY AS event (kind, data, n)
)
"""
_ANSWER = "SELECT last_event, at FROM touched"
RECORD = _RECORDED + _ANSWER

# Also ADK's events of the turn, which change no state. Each sorts a microsecond after the one before, and the first
# after the update time of the session, or at its own time if that is later: 11 is that time less its place in the turn,
# and never less than that of the one before.
# 8 ids, 9 invocation ids, 10 event_data, 11 microseconds
RECORD_ADK = f"""
{_RECORDED}, theirs AS MATERIALIZED (
    SELECT app_name, sessions.user_id, id, (extract(epoch FROM update_time) * 1000000)::bigint AS updated
    FROM sessions, touched
    WHERE app_name = touched.app COLLATE "default" AND sessions.user_id = touched.user_id COLLATE "default"
    AND id = touched.adk_id COLLATE "default"
    FOR NO KEY UPDATE OF sessions
), placed AS MATERIALIZED (
    SELECT theirs.*, event.id AS event, invocation, data, greatest(updated, earliest) + n AS place
    FROM theirs, unnest($8::text[], $9::text[], $10::text[], $11::bigint[])
        WITH ORDINALITY AS event (id, invocation, data, earliest, n)
), moved AS (
    UPDATE sessions SET update_time = to_timestamp(last.place / 1e6) AT TIME ZONE 'UTC'
    FROM (SELECT app_name, user_id, id, max(place) AS place FROM placed GROUP BY 1, 2, 3) AS last
    WHERE sessions.app_name = last.app_name AND sessions.user_id = last.user_id AND sessions.id = last.id
), added AS (
    INSERT INTO events (id, app_name, user_id, session_id, invocation_id, timestamp, event_data)
    SELECT event, app_name, user_id, id, invocation, to_timestamp(place / 1e6) AT TIME ZONE 'UTC', data::jsonb
    FROM placed ON CONFLICT DO NOTHING
)
{_ANSWER}
"""


def adk_columns(turn: AdkTurn) -> tuple[Sequence[object], ...]:
    """The parameters 8 to 11 of RECORD_ADK."""
    own = (micros(event.timestamp) - place for place, event in enumerate(turn.events, 1))
    columns = zip(*((event.id, event.invocation_id, event.data) for event in turn.events), strict=True)
    return *map(list, columns), list(accumulate(own, max))
