#!/usr/bin/env python3
"""Merge SQLite files, or other databases, into one: ``scripts/db_merge.py TARGET SOURCE… [--dry-run]``.

For programs: ``from scripts.db_merge import DatabaseMerger``, then ``DatabaseMerger(target).merge_databases(path)``.
It does the same as ``session-manager db merge``. Its exit code is 6 if there are conflicts.
"""

from __future__ import annotations

import argparse
import os
import sys

from session_manager.databases.merging import DatabaseMerger
from session_manager.domain.errors import SessionManagerError

__all__ = ["DatabaseMerger"]


def main() -> int:
    """Merge the databases on the command line."""
    parser = argparse.ArgumentParser(description="Add the conversations in SOURCE that TARGET lacks to TARGET.")
    parser.add_argument("target", help="path of a SQLite file, or postgresql://…")
    parser.add_argument("source", nargs="+", help="the same; opened read-only")
    parser.add_argument("--dry-run", action="store_true", help="only show what would be done")
    given = parser.parse_args()
    merger = DatabaseMerger(given.target, os.environ.get("SESSION_DB_PLAIN_HOSTS", ""))
    try:
        merged = merger.merge_databases(*given.source, dry_run=given.dry_run)
    except SessionManagerError as error:
        sys.stderr.write(f"Error: {error.detail}\n")
        return 1
    lines = [f"{table}: {rows} rows" for table, rows in merged.rows.items()]
    lines += [f"conflict: {conflict}" for conflict in merged.conflicts]
    sys.stdout.write("\n".join([*lines, f"{merged.same} already existed\n"]))
    return 6 if merged.conflicts else 0


if __name__ == "__main__":
    sys.exit(main())
