"""The schema of our own tables, as numbered migrations that both engines share."""
