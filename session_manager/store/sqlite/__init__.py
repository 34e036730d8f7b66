"""The store in one SQLite file, in WAL mode: one writer that groups commits, and readers beside it."""
