-- What is there already.
UPDATE session SET bytes = (
        SELECT coalesce(sum(length(CAST(text AS BLOB)) + length(CAST(coalesce(payload, '') AS BLOB))
            + length(CAST(coalesce(response, '') AS BLOB)) + length(CAST(coalesce(error, '') AS BLOB))), 0)
        FROM message WHERE message.session = session.uuid)
    + (SELECT coalesce(sum(length(CAST(data AS BLOB))), 0) FROM session_event WHERE session_event.session = session.uuid)
    + (SELECT coalesce(sum(length(CAST(event_data AS BLOB))), 0) FROM events
        WHERE app_name = session.app AND events.user_id = session.user_id AND session_id = session.adk_id)
    WHERE deleted_at IS NULL;
UPDATE session SET charged = bytes WHERE deleted_at IS NULL;
INSERT INTO user_usage (user_id, sessions, bytes)
    SELECT user_id, sum(counted), sum(size) FROM (
        SELECT user_id, expired_at IS NULL AS counted, charged AS size FROM session WHERE deleted_at IS NULL
        UNION ALL
        SELECT user_id, 0, length(CAST(part AS BLOB)) + length(CAST(custom_metadata AS BLOB)) FROM artifact
        UNION ALL
        SELECT user_id, 0, length(CAST(words AS BLOB)) + length(CAST(data AS BLOB)) FROM memory
        UNION ALL
        SELECT user_id, 0, length(CAST(state AS BLOB)) FROM user_states
    ) GROUP BY user_id;

CREATE TRIGGER session_manager_use_made AFTER INSERT ON session WHEN NEW.deleted_at IS NULL
BEGIN
    INSERT INTO user_usage SELECT NEW.user_id, 0, 0
        WHERE NOT EXISTS (SELECT 1 FROM user_usage WHERE user_id = NEW.user_id);
    UPDATE user_usage SET sessions = sessions + (NEW.expired_at IS NULL), bytes = bytes + NEW.charged
        WHERE user_id = NEW.user_id;
END;
CREATE TRIGGER session_manager_use_changed AFTER UPDATE OF expired_at, deleted_at, charged ON session
WHEN (OLD.expired_at IS NULL) <> (NEW.expired_at IS NULL) OR (OLD.deleted_at IS NULL) <> (NEW.deleted_at IS NULL)
    OR OLD.charged <> NEW.charged
BEGIN
    UPDATE user_usage SET
        sessions = sessions + (NEW.deleted_at IS NULL AND NEW.expired_at IS NULL)
            - (OLD.deleted_at IS NULL AND OLD.expired_at IS NULL),
        bytes = bytes + NEW.charged * (NEW.deleted_at IS NULL) - OLD.charged * (OLD.deleted_at IS NULL)
    WHERE user_id = NEW.user_id;
END;
CREATE TRIGGER session_manager_use_removed AFTER DELETE ON session WHEN OLD.deleted_at IS NULL
BEGIN
    UPDATE user_usage SET sessions = sessions - (OLD.expired_at IS NULL), bytes = bytes - OLD.charged
        WHERE user_id = OLD.user_id;
END;

CREATE TRIGGER session_manager_use_artifact AFTER INSERT ON artifact
BEGIN
    INSERT INTO user_usage SELECT NEW.user_id, 0, 0
        WHERE NOT EXISTS (SELECT 1 FROM user_usage WHERE user_id = NEW.user_id);
    UPDATE user_usage
        SET bytes = bytes + length(CAST(NEW.part AS BLOB)) + length(CAST(NEW.custom_metadata AS BLOB))
        WHERE user_id = NEW.user_id;
END;
CREATE TRIGGER session_manager_use_artifact_removed AFTER DELETE ON artifact
BEGIN
    UPDATE user_usage
        SET bytes = bytes - length(CAST(OLD.part AS BLOB)) - length(CAST(OLD.custom_metadata AS BLOB))
        WHERE user_id = OLD.user_id;
END;
CREATE TRIGGER session_manager_use_memory AFTER INSERT ON memory
BEGIN
    INSERT INTO user_usage SELECT NEW.user_id, 0, 0
        WHERE NOT EXISTS (SELECT 1 FROM user_usage WHERE user_id = NEW.user_id);
    UPDATE user_usage SET bytes = bytes + length(CAST(NEW.words AS BLOB)) + length(CAST(NEW.data AS BLOB))
        WHERE user_id = NEW.user_id;
END;
CREATE TRIGGER session_manager_use_memory_removed AFTER DELETE ON memory
BEGIN
    UPDATE user_usage SET bytes = bytes - length(CAST(OLD.words AS BLOB)) - length(CAST(OLD.data AS BLOB))
        WHERE user_id = OLD.user_id;
END;
CREATE TRIGGER session_manager_use_state AFTER INSERT ON user_states
BEGIN
    INSERT INTO user_usage SELECT NEW.user_id, 0, 0
        WHERE NOT EXISTS (SELECT 1 FROM user_usage WHERE user_id = NEW.user_id);
    UPDATE user_usage SET bytes = bytes + length(CAST(NEW.state AS BLOB)) WHERE user_id = NEW.user_id;
END;
CREATE TRIGGER session_manager_use_state_changed AFTER UPDATE OF state ON user_states
BEGIN
    UPDATE user_usage SET bytes = bytes + length(CAST(NEW.state AS BLOB)) - length(CAST(OLD.state AS BLOB))
        WHERE user_id = NEW.user_id;
END;
CREATE TRIGGER session_manager_use_state_removed AFTER DELETE ON user_states
BEGIN
    UPDATE user_usage SET bytes = bytes - length(CAST(OLD.state AS BLOB)) WHERE user_id = OLD.user_id;
END;
