-- bytes: the size of the session's messages, replies, events and ADK events. charged: as much of it as user_usage has.
-- Each turn changes bytes; charged follows in steps, so that the turns of one user do not wait for each other.
ALTER TABLE session ADD COLUMN bytes {int} NOT NULL DEFAULT 0;
ALTER TABLE session ADD COLUMN charged {int} NOT NULL DEFAULT 0;

-- Triggers keep it: sessions that are neither deleted nor expired, and bytes of sessions, artifacts, memory and state.
CREATE TABLE user_usage (
    user_id  {key} NOT NULL PRIMARY KEY,
    sessions {int} NOT NULL,
    bytes    {int} NOT NULL
) {updated_often};
