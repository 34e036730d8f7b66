"""The store in one SQLite file: WAL, one writer that groups commits, readers beside it."""
