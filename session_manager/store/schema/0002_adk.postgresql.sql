-- The layout of google-adk's DatabaseSessionService, version 1. Times are UTC without a zone.

CREATE TABLE IF NOT EXISTS adk_internal_metadata (
    key VARCHAR(128) NOT NULL,
    value VARCHAR(256) NOT NULL,
    PRIMARY KEY (key)
);
INSERT INTO adk_internal_metadata (key, value) VALUES ('schema_version', '1') ON CONFLICT DO NOTHING;
CREATE TABLE IF NOT EXISTS app_states (
    app_name VARCHAR(128) NOT NULL,
    state JSONB NOT NULL,
    update_time TIMESTAMP WITHOUT TIME ZONE NOT NULL,
    PRIMARY KEY (app_name)
);
CREATE TABLE IF NOT EXISTS user_states (
    app_name VARCHAR(128) NOT NULL,
    user_id VARCHAR(128) NOT NULL,
    state JSONB NOT NULL,
    update_time TIMESTAMP WITHOUT TIME ZONE NOT NULL,
    PRIMARY KEY (app_name, user_id)
);
CREATE TABLE IF NOT EXISTS sessions (
    app_name VARCHAR(128) NOT NULL,
    user_id VARCHAR(128) NOT NULL,
    id VARCHAR(128) NOT NULL,
    state JSONB NOT NULL,
    create_time TIMESTAMP WITHOUT TIME ZONE NOT NULL,
    update_time TIMESTAMP WITHOUT TIME ZONE NOT NULL,
    PRIMARY KEY (app_name, user_id, id)
);
CREATE TABLE IF NOT EXISTS events (
    id VARCHAR(128) NOT NULL,
    app_name VARCHAR(128) NOT NULL,
    user_id VARCHAR(128) NOT NULL,
    session_id VARCHAR(128) NOT NULL,
    invocation_id VARCHAR(256) NOT NULL,
    timestamp TIMESTAMP WITHOUT TIME ZONE NOT NULL,
    event_data JSONB,
    PRIMARY KEY (id, app_name, user_id, session_id),
    FOREIGN KEY (app_name, user_id, session_id) REFERENCES sessions (app_name, user_id, id) ON DELETE CASCADE
);
CREATE INDEX IF NOT EXISTS idx_events_app_user_session_ts_id
    ON events (app_name, user_id, session_id, timestamp DESC, id DESC);

-- Our own index: the first of many sessions, without reading the others.
CREATE INDEX session_manager_sessions_by_time ON sessions (app_name, user_id, update_time, id);

-- Rows that ADK creates or removes are noted. This program's own changes are not, because it writes its own row first.
-- The functions run with the rights of their owner, so that a role that ADK uses needs no rights on our tables.
CREATE FUNCTION session_manager_made() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER SET search_path FROM CURRENT AS $$
BEGIN
    IF NOT EXISTS (SELECT 1 FROM session WHERE app = NEW.app_name AND user_id = NEW.user_id AND adk_id = NEW.id
        AND deleted_at IS NULL) THEN
        INSERT INTO adk_note (app, user_id, adk_id) VALUES (NEW.app_name, NEW.user_id, NEW.id);
    END IF;
    RETURN NULL;
END $$;
CREATE FUNCTION session_manager_removed() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER SET search_path FROM CURRENT AS $$
BEGIN
    IF EXISTS (SELECT 1 FROM session WHERE app = OLD.app_name AND user_id = OLD.user_id AND adk_id = OLD.id
        AND deleted_at IS NULL) THEN
        INSERT INTO adk_note (app, user_id, adk_id) VALUES (OLD.app_name, OLD.user_id, OLD.id);
    END IF;
    RETURN NULL;
END $$;
CREATE TRIGGER session_manager_made AFTER INSERT ON sessions FOR EACH ROW EXECUTE FUNCTION session_manager_made();
CREATE TRIGGER session_manager_removed AFTER DELETE ON sessions FOR EACH ROW EXECUTE FUNCTION session_manager_removed();

-- A trigger, so that a version of this program without these tables also removes the rows of a session. Events
-- come first, as in ADK, so that the two never deadlock.
CREATE FUNCTION session_manager_deleted() RETURNS trigger LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
BEGIN
    DELETE FROM events WHERE app_name = NEW.app COLLATE "default" AND user_id = NEW.user_id COLLATE "default"
        AND session_id = NEW.adk_id COLLATE "default";
    DELETE FROM sessions WHERE app_name = NEW.app COLLATE "default" AND user_id = NEW.user_id COLLATE "default"
        AND id = NEW.adk_id COLLATE "default";
    DELETE FROM artifact WHERE app = NEW.app AND user_id = NEW.user_id AND session = NEW.uuid;
    DELETE FROM memory WHERE app = NEW.app AND user_id = NEW.user_id AND session = NEW.uuid;
    RETURN NULL;
END $$;
CREATE TRIGGER session_manager_deleted AFTER UPDATE OF deleted_at ON session FOR EACH ROW
    WHEN (NEW.deleted_at IS NOT NULL AND OLD.deleted_at IS NULL) EXECUTE FUNCTION session_manager_deleted();

-- Sessions that exist already.
INSERT INTO adk_note (app, user_id, adk_id)
    SELECT app_name, sessions.user_id, id FROM sessions
    WHERE NOT EXISTS (SELECT 1 FROM session WHERE app = app_name AND session.user_id = sessions.user_id AND adk_id = id
        AND deleted_at IS NULL);
INSERT INTO sessions (app_name, user_id, id, state, create_time, update_time)
    SELECT app, user_id, adk_id, '{}', to_timestamp(created_at / 1e6) AT TIME ZONE 'UTC',
        to_timestamp(last_activity / 1e6) AT TIME ZONE 'UTC'
    FROM session WHERE deleted_at IS NULL AND length(app) <= 128 AND length(user_id) <= 128 ON CONFLICT DO NOTHING;
UPDATE session SET adk_row = 1 WHERE deleted_at IS NULL AND length(app) <= 128 AND length(user_id) <= 128;
INSERT INTO app_states (app_name, state, update_time)
    SELECT app_name, '{}', max(update_time) FROM sessions GROUP BY app_name ON CONFLICT DO NOTHING;
INSERT INTO user_states (app_name, user_id, state, update_time)
    SELECT app_name, user_id, '{}', max(update_time) FROM sessions GROUP BY app_name, user_id ON CONFLICT DO NOTHING;
