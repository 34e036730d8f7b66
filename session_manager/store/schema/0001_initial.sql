-- Times and durations are whole microseconds since 1970, UTC. Words in braces differ between the engines.

CREATE TABLE session (
    uuid             {key} NOT NULL PRIMARY KEY,
    user_id          {key} NOT NULL,
    app              {key} NOT NULL,
    adk_id           {key} NOT NULL,
    class_name       {key} NOT NULL,
    name             TEXT,
    ttl              {int} NOT NULL,
    created_at       {int} NOT NULL,
    last_activity    {int} NOT NULL,
    expires_at       {int} NOT NULL,
    last_seq         {int} NOT NULL DEFAULT 0,
    last_event       {int} NOT NULL DEFAULT 0,
    woken_at         {int},
    expired_at       {int},
    failed_at        {int},
    failure_reason   TEXT,
    failure_remedy   TEXT,
    failure_next_try {int},
    failure_tries    {int},
    deleted_at       {int},
    purged_at        {int}
) {updated_often};

CREATE UNIQUE INDEX session_adk_key ON session (app, user_id, adk_id) WHERE deleted_at IS NULL;

-- Both contain the columns of the status table, so that a filtered count reads only the index.
CREATE INDEX session_newest ON session (created_at, uuid, expired_at, failed_at, woken_at)
    WHERE deleted_at IS NULL;
CREATE INDEX session_newest_of_user ON session (user_id, created_at, uuid, expired_at, failed_at, woken_at)
    WHERE deleted_at IS NULL;

-- The earliest time at which a session may expire. Unlike expires_at it never changes, so that touching a session, which
-- each turn does twice, rewrites no index.
CREATE INDEX session_first_expiry ON session ((created_at + ttl)) WHERE expired_at IS NULL AND deleted_at IS NULL;

CREATE INDEX session_deleted ON session (deleted_at, uuid) WHERE deleted_at IS NOT NULL;

CREATE TABLE message (
    id              {key} NOT NULL PRIMARY KEY,
    session         {key} NOT NULL REFERENCES session (uuid),
    seq             {int} NOT NULL,
    caller          {key} NOT NULL,
    idempotency_key {key},
    body_hash       {key},
    text            TEXT NOT NULL,
    accepted_at     {int} NOT NULL,
    attempt         {int} NOT NULL DEFAULT 1,
    deaths          {int} NOT NULL DEFAULT 0,
    finished_at     {int},
    status          {key},
    response        TEXT,
    error           TEXT,
    CONSTRAINT message_seq UNIQUE (session, seq)
) {updated_often};

CREATE UNIQUE INDEX message_idempotency ON message (session, caller, idempotency_key)
    WHERE idempotency_key IS NOT NULL;
-- Each turn adds a row and removes it: one index serves inboxes, the repair and the backlog.
CREATE INDEX message_unfinished ON message (session, seq, accepted_at) WHERE finished_at IS NULL;

CREATE TABLE session_event (
    session    {key} NOT NULL REFERENCES session (uuid),
    number     {int} NOT NULL,
    kind       {key} NOT NULL,
    message_id {key},
    data       TEXT NOT NULL,
    created_at {int} NOT NULL,
    PRIMARY KEY (session, number)
) {keyed};
