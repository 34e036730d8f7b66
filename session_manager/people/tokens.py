"""The credential of one turn, with which a pod reads its session and appends to it while that turn is open.

Tokens are not stored.  A token names its session, message, attempt, start and expiry, and is signed with a secret that
all front doors of an installation share.  The store checks that the attempt is still open, in the commit that appends.
"""

from __future__ import annotations

import hmac
import time
from collections.abc import Awaitable, Callable
from typing import NamedTuple

from session_manager.domain.errors import Unauthenticated
from session_manager.domain.message import Attempt

SECRET_NAME = "session-token"  # noqa: S105  its name in the store
LEEWAY = 60.0  # seconds beyond the turn's own limit: clocks of front doors differ
_MAX_LENGTH = 256


class Grant(NamedTuple):
    """The scope of a token: the session with this uuid, while this attempt of this message is open.

    ``began``: when the token was made, in Unix seconds.
    """

    session: str
    attempt: Attempt
    began: float


class Tokens:
    """``secret`` fetches the installation's secret, the same for all front doors; ``load`` calls it once."""

    def __init__(self, secret: Callable[[], Awaitable[str]]) -> None:
        self._secret = secret
        self._key = b""

    @property
    def loaded(self) -> bool:
        return bool(self._key)

    async def load(self) -> bytes:
        """Fetch and return the secret. Raises Unavailable."""
        self._key = (await self._secret()).encode()
        return self._key

    def mint(self, session: str, message_id: str, attempt: int, seconds: float) -> str:
        """Return a token for an attempt that lasts at most ``seconds``. The secret must be loaded."""
        now = time.time()
        claims = f"{session}.{message_id}.{attempt}.{int(now)}.{int(now + seconds + LEEWAY)}"
        return f"{claims}.{hmac.digest(self._key, claims.encode(), 'sha256').hex()}"

    async def verify(self, token: str) -> Grant:
        """Return what a token allows. Raises Unauthenticated for a forged or expired one, Unavailable."""
        key = self._key or await self.load()
        claims, _, signature = token.rpartition(".")
        parts = claims.split(".")
        complete = len(parts) == 5 and len(token) <= _MAX_LENGTH and token.isascii()
        if not complete or not hmac.compare_digest(hmac.digest(key, claims.encode(), "sha256").hex(), signature):
            raise Unauthenticated("X-Session-Token: not a valid token of a turn", tried=True)
        session, message_id, attempt, began, expiry = parts
        if time.time() > int(expiry):
            raise Unauthenticated("X-Session-Token: its turn is over")
        return Grant(session, Attempt(message_id, int(attempt)), float(began))
