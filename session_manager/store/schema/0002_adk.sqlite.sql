-- The layout of google-adk's SqliteSessionService. Times are Unix seconds. events needs its rowid, which orders events of the same time.

CREATE TABLE IF NOT EXISTS app_states (
    app_name TEXT PRIMARY KEY,
    state TEXT NOT NULL,
    update_time REAL NOT NULL
);
CREATE TABLE IF NOT EXISTS user_states (
    app_name TEXT NOT NULL,
    user_id TEXT NOT NULL,
    state TEXT NOT NULL,
    update_time REAL NOT NULL,
    PRIMARY KEY (app_name, user_id)
);
CREATE TABLE IF NOT EXISTS sessions (
    app_name TEXT NOT NULL,
    user_id TEXT NOT NULL,
    id TEXT NOT NULL,
    state TEXT NOT NULL,
    create_time REAL NOT NULL,
    update_time REAL NOT NULL,
    PRIMARY KEY (app_name, user_id, id)
);
CREATE TABLE IF NOT EXISTS events (
    id TEXT NOT NULL,
    app_name TEXT NOT NULL,
    user_id TEXT NOT NULL,
    session_id TEXT NOT NULL,
    invocation_id TEXT NOT NULL,
    timestamp REAL NOT NULL,
    event_data TEXT NOT NULL,
    PRIMARY KEY (app_name, user_id, session_id, id),
    FOREIGN KEY (app_name, user_id, session_id) REFERENCES sessions(app_name, user_id, id) ON DELETE CASCADE
);

-- Our own indexes: the last events of a long session, and the first of many sessions, without reading the others.
CREATE INDEX session_manager_events_by_time ON events (app_name, user_id, session_id, timestamp);
CREATE INDEX session_manager_sessions_by_time ON sessions (app_name, user_id, update_time, id);

-- Rows that ADK creates or removes are noted. This program's own changes are not, because it writes its own row first.
CREATE TRIGGER session_manager_made AFTER INSERT ON sessions
WHEN NOT EXISTS (SELECT 1 FROM session WHERE app = NEW.app_name AND user_id = NEW.user_id AND adk_id = NEW.id
    AND deleted_at IS NULL)
BEGIN
    INSERT INTO adk_note (app, user_id, adk_id) VALUES (NEW.app_name, NEW.user_id, NEW.id);
END;
CREATE TRIGGER session_manager_removed AFTER DELETE ON sessions
WHEN EXISTS (SELECT 1 FROM session WHERE app = OLD.app_name AND user_id = OLD.user_id AND adk_id = OLD.id
    AND deleted_at IS NULL)
BEGIN
    INSERT INTO adk_note (app, user_id, adk_id) VALUES (OLD.app_name, OLD.user_id, OLD.id);
END;

-- A trigger, so that a version of this program without these tables also removes the rows of a session.
CREATE TRIGGER session_manager_deleted AFTER UPDATE OF deleted_at ON session
WHEN NEW.deleted_at IS NOT NULL AND OLD.deleted_at IS NULL
BEGIN
    DELETE FROM events WHERE app_name = NEW.app AND user_id = NEW.user_id AND session_id = NEW.adk_id;
    DELETE FROM sessions WHERE app_name = NEW.app AND user_id = NEW.user_id AND id = NEW.adk_id;
    DELETE FROM artifact WHERE app = NEW.app AND user_id = NEW.user_id AND session = NEW.uuid;
    DELETE FROM memory WHERE app = NEW.app AND user_id = NEW.user_id AND session = NEW.uuid;
END;

-- Sessions that exist already.
INSERT INTO adk_note (app, user_id, adk_id)
    SELECT app_name, sessions.user_id, id FROM sessions
    WHERE NOT EXISTS (SELECT 1 FROM session WHERE app = app_name AND session.user_id = sessions.user_id AND adk_id = id
        AND deleted_at IS NULL);
INSERT INTO sessions (app_name, user_id, id, state, create_time, update_time)
    SELECT app, user_id, adk_id, '{}', created_at / 1e6, last_activity / 1e6 FROM session
    WHERE deleted_at IS NULL AND length(app) <= 128 AND length(user_id) <= 128 ON CONFLICT DO NOTHING;
UPDATE session SET adk_row = 1 WHERE deleted_at IS NULL AND length(app) <= 128 AND length(user_id) <= 128;
INSERT INTO app_states (app_name, state, update_time)
    SELECT app_name, '{}', max(update_time) FROM sessions WHERE true GROUP BY app_name ON CONFLICT DO NOTHING;
INSERT INTO user_states (app_name, user_id, state, update_time)
    SELECT app_name, user_id, '{}', max(update_time) FROM sessions WHERE true GROUP BY app_name, user_id
    ON CONFLICT DO NOTHING;
