"""The two transactions of each turn as single statements: one round trip instead of five.

They write the same rows as ``transactions/messages.py``. Like all transactions here they lock the session's row first,
so that no deadlock is possible. The parts of a statement share one snapshot, but a row that another transaction had
locked is read again, so that the conditions hold for the row that is written.
"""

# ruff: noqa: S608  the SQL is built from constants; values are parameters
from __future__ import annotations

from session_manager.store.transactions.base import SESSION, SESSION_WIDTH

NOW = "SELECT (extract(epoch FROM clock_timestamp()) * 1000000)::bigint AS at"

# No row: the session is unknown or deleted, or the Idempotency-Key is known. A second statement finds out which.
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
RECORD = f"""
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
    RETURNING uuid, last_event, now.at
), stored AS (
    INSERT INTO session_event (session, number, kind, message_id, data, created_at)
    SELECT uuid, last_event - cardinality($6::text[]) + event.n, event.kind, $1, event.data, at
    FROM touched, unnest($6::text[], $7::text[]) WITH ORDINALITY AS event (kind, data, n)
)
SELECT last_event, at FROM touched
"""
