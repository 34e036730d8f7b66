-- Our own tables and columns for ADK. ADK's tables and their triggers are in one file per engine.

ALTER TABLE message ADD COLUMN payload TEXT;

-- 1: the pod writes to its session itself, so that the events of the turn must not be written by this program.
ALTER TABLE message ADD COLUMN adk_kept {int} NOT NULL DEFAULT 0;

-- The number of the last event whose turn is in ADK's events. No index, because each turn changes last_event.
ALTER TABLE session ADD COLUMN adk_told {int} NOT NULL DEFAULT 0;

-- 1: this session has, or had, a row in ADK's table "sessions". Without one, an ADK service cannot have removed it.
ALTER TABLE session ADD COLUMN adk_row {int} NOT NULL DEFAULT 0;
CREATE INDEX session_without_adk ON session (uuid) WHERE adk_row = 0 AND deleted_at IS NULL;

-- Keys to reconcile: an ADK service created or removed their rows. Triggers only insert, so that no change is missed.
CREATE TABLE adk_note (
    number  {serial},
    app     {key} NOT NULL,
    user_id {key} NOT NULL,
    adk_id  {key} NOT NULL
) {rowid};

-- session is a uuid, or empty for artifacts that all sessions of the user in the app share. created_at: Unix seconds.
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

-- words has the words of the event's text in lower case, each between two spaces.
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
