-- What is there already.
UPDATE session SET bytes = (
        SELECT coalesce(sum(octet_length(text) + coalesce(octet_length(payload), 0) + coalesce(octet_length(response), 0)
            + coalesce(octet_length(error), 0)), 0)
        FROM message WHERE message.session = session.uuid)
    + (SELECT coalesce(sum(octet_length(data)), 0) FROM session_event WHERE session_event.session = session.uuid)
    + (SELECT coalesce(sum(octet_length(event_data::text)), 0) FROM events
        WHERE app_name = session.app AND events.user_id = session.user_id AND session_id = session.adk_id)
    WHERE deleted_at IS NULL;
UPDATE session SET charged = bytes WHERE deleted_at IS NULL;
INSERT INTO user_usage (user_id, sessions, bytes)
    SELECT user_id, sum(counted), sum(size) FROM (
        SELECT user_id, (expired_at IS NULL)::int AS counted, charged AS size FROM session WHERE deleted_at IS NULL
        UNION ALL
        SELECT user_id, 0, octet_length(part) + octet_length(custom_metadata) FROM artifact
        UNION ALL
        SELECT user_id, 0, octet_length(words) + octet_length(data) FROM memory
        UNION ALL
        SELECT user_id COLLATE "C", 0, octet_length(state::text) FROM user_states
    ) AS found GROUP BY user_id;

-- Deferred to the commit: so the row of the user is the last that a transaction locks, and for the shortest time, and
-- two transactions of one user never wait for each other in a circle. The functions run with the rights of their owner,
-- because ADK's roles need no rights on our tables.
CREATE FUNCTION session_manager_use(owner text, more_sessions bigint, more_bytes bigint) RETURNS void
LANGUAGE sql SECURITY DEFINER SET search_path FROM CURRENT AS $$
    INSERT INTO user_usage AS known (user_id, sessions, bytes) VALUES (owner, more_sessions, more_bytes)
    ON CONFLICT (user_id)
    DO UPDATE SET sessions = known.sessions + excluded.sessions, bytes = known.bytes + excluded.bytes
$$;
CREATE FUNCTION session_manager_use_session() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path FROM CURRENT AS $$
DECLARE
    sessions bigint := 0;
    size bigint := 0;
BEGIN
    IF TG_OP <> 'INSERT' AND OLD.deleted_at IS NULL THEN
        sessions := sessions - (OLD.expired_at IS NULL)::int;
        size := size - OLD.charged;
    END IF;
    IF TG_OP <> 'DELETE' AND NEW.deleted_at IS NULL THEN
        sessions := sessions + (NEW.expired_at IS NULL)::int;
        size := size + NEW.charged;
    END IF;
    IF TG_OP = 'DELETE' THEN
        PERFORM session_manager_use(OLD.user_id, sessions, size);
    ELSE
        PERFORM session_manager_use(NEW.user_id, sessions, size);
    END IF;
    RETURN NULL;
END $$;
CREATE FUNCTION session_manager_use_artifact() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path FROM CURRENT AS $$
BEGIN
    IF TG_OP = 'INSERT' THEN
        PERFORM session_manager_use(NEW.user_id, 0, octet_length(NEW.part) + octet_length(NEW.custom_metadata));
    ELSE
        PERFORM session_manager_use(OLD.user_id, 0, -octet_length(OLD.part) - octet_length(OLD.custom_metadata));
    END IF;
    RETURN NULL;
END $$;
CREATE FUNCTION session_manager_use_memory() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path FROM CURRENT AS $$
BEGIN
    IF TG_OP = 'INSERT' THEN
        PERFORM session_manager_use(NEW.user_id, 0, octet_length(NEW.words) + octet_length(NEW.data));
    ELSE
        PERFORM session_manager_use(OLD.user_id, 0, -octet_length(OLD.words) - octet_length(OLD.data));
    END IF;
    RETURN NULL;
END $$;
CREATE FUNCTION session_manager_use_state() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path FROM CURRENT AS $$
BEGIN
    IF TG_OP = 'INSERT' THEN
        PERFORM session_manager_use(NEW.user_id, 0, octet_length(NEW.state::text));
    ELSIF TG_OP = 'DELETE' THEN
        PERFORM session_manager_use(OLD.user_id, 0, -octet_length(OLD.state::text));
    ELSE
        PERFORM session_manager_use(NEW.user_id, 0, octet_length(NEW.state::text) - octet_length(OLD.state::text));
    END IF;
    RETURN NULL;
END $$;

CREATE CONSTRAINT TRIGGER session_manager_use_made AFTER INSERT ON session DEFERRABLE INITIALLY DEFERRED
    FOR EACH ROW WHEN (NEW.deleted_at IS NULL) EXECUTE FUNCTION session_manager_use_session();
CREATE CONSTRAINT TRIGGER session_manager_use_changed AFTER UPDATE OF expired_at, deleted_at, charged ON session
    DEFERRABLE INITIALLY DEFERRED FOR EACH ROW
    WHEN ((OLD.expired_at IS NULL) <> (NEW.expired_at IS NULL) OR (OLD.deleted_at IS NULL) <> (NEW.deleted_at IS NULL)
        OR OLD.charged <> NEW.charged)
    EXECUTE FUNCTION session_manager_use_session();
CREATE CONSTRAINT TRIGGER session_manager_use_removed AFTER DELETE ON session DEFERRABLE INITIALLY DEFERRED
    FOR EACH ROW WHEN (OLD.deleted_at IS NULL) EXECUTE FUNCTION session_manager_use_session();
CREATE CONSTRAINT TRIGGER session_manager_use_artifact AFTER INSERT OR DELETE ON artifact
    DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION session_manager_use_artifact();
CREATE CONSTRAINT TRIGGER session_manager_use_memory AFTER INSERT OR DELETE ON memory
    DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION session_manager_use_memory();
CREATE CONSTRAINT TRIGGER session_manager_use_state AFTER INSERT OR DELETE OR UPDATE OF state ON user_states
    DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION session_manager_use_state();
