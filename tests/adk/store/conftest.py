"""The fixtures of the store's own contract: each test runs on every engine."""

from __future__ import annotations

from tests.store.conftest import _emptied_database, _shared_database, database, opened, postgres, postgres_uri, store

__all__ = ["_emptied_database", "_shared_database", "database", "opened", "postgres", "postgres_uri", "store"]
