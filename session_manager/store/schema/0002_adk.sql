-- What ADK keeps, and what we keep beside it. ADK's own tables and what watches them are in a file per engine.

ALTER TABLE message ADD COLUMN payload TEXT;

-- 1: the pod that works on it writes to its session itself, so that nobody else has to tell ADK of the turn.
ALTER TABLE message ADD COLUMN adk_kept {int} NOT NULL DEFAULT 0;

-- The number of the last event whose turn ADK's events tell of. No index: every turn changes last_event.
ALTER TABLE session ADD COLUMN adk_told {int} NOT NULL DEFAULT 0;

-- 1: a row of ADK's table "sessions" belongs to this one, or did. Until then nobody can have removed it.
ALTER TABLE session ADD COLUMN adk_row {int} NOT NULL DEFAULT 0;
CREATE INDEX session_without_adk ON session (uuid) WHERE adk_row = 0 AND deleted_at IS NULL;

-- Keys that need a look: somebody else made or removed their row. Only ever added to, so that no look misses a change.
CREATE TABLE adk_note (
    number  {serial},
    app     {key} NOT NULL,
    user_id {key} NOT NULL,
    adk_id  {key} NOT NULL
) {rowid};

-- session: its uuid, or empty for what all sessions of the user in the app share. created_at in Unix seconds.
CREATE TABLE artifact (
    app             {key} NOT NULL,
    user_id         {key} NOT NULL,
    session         {key} NOT NULL,
    name            {key} NOT NULL,
    version         {int} NOT NULL,
    part            TEXT NOT NULL,
    mime_type       TEXT,
    custom_metadata TEXT NOT NULL,
    created_at      {float} NOT NULL,
    PRIMARY KEY (app, user_id, session, name, version)
) {rowid};

-- words: those of the event's text in lower case, each between two spaces.
CREATE TABLE memory (
    app       {key} NOT NULL,
    user_id   {key} NOT NULL,
    session   {key} NOT NULL,
    event_id  {key} NOT NULL,
    timestamp {float} NOT NULL,
    words     TEXT NOT NULL,
    data      TEXT NOT NULL,
    PRIMARY KEY (app, user_id, session, event_id)
) {rowid};

CREATE TABLE installation (
    name  {key} NOT NULL PRIMARY KEY,
    value TEXT NOT NULL
) {keyed};
