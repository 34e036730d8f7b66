"""Values that all front doors of one installation share."""

from __future__ import annotations

import secrets

from session_manager.domain.times import Micros
from session_manager.store.transactions.base import Transaction

_SECRET_BYTES = 32
_FIND = "SELECT value FROM installation WHERE name = $1"
_KEEP = "INSERT INTO installation (name, value) VALUES ($1, $2) ON CONFLICT DO NOTHING"


def ping() -> Transaction[None]:
    """Check that the database answers."""
    yield "SELECT 1", ()


def secret(now: Micros, name: str) -> Transaction[str]:
    """Return the secret of that name. The first call creates it."""
    yield _KEEP, (name, secrets.token_urlsafe(_SECRET_BYTES))
    rows = yield _FIND, (name,)
    kept: str = rows[0][0]
    return kept
