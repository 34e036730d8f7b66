"""Asks each part if it works, and logs every change once."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeAlias

from session_manager.aio.tasks import cancel
from session_manager.domain.errors import Unavailable
from session_manager.storage.files import trouble_of

log = logging.getLogger(__name__)

PATIENCE = 2.0  # seconds for the answer of one part
CHECK_EVERY = 5.0  # seconds; a full disk is noticed although there are no writes and no requests

Check: TypeAlias = Callable[[], Awaitable[object]]
Reasons: TypeAlias = Mapping[str, str | None]
"""For each part the reason why it does not work, or None."""


@dataclass(slots=True, eq=False)
class Health:
    """``checks`` raise Unavailable, with the reason. ``reasons`` are those of the last check."""

    checks: Mapping[str, Check]
    reasons: dict[str, str | None] = field(init=False, default_factory=dict)
    _told: dict[str, str | None] = field(init=False, default_factory=dict)
    _check: asyncio.Task[None] | None = field(init=False, default=None)

    async def check(self) -> Reasons:
        """Ask all parts. Simultaneous callers share one check: it needs no key, and must not use up connections."""
        if self._check is None or self._check.done():
            self._check = asyncio.create_task(self._ask_all(), name="health")
        await asyncio.wait((self._check,))
        return self.reasons

    async def run(self) -> None:
        """Check regularly until cancelled, and log what changes. To be called once everything has been reached."""
        while True:
            await self.check()
            self._tell()
            await asyncio.sleep(CHECK_EVERY)

    async def close(self) -> None:
        """End a check that is under way; a request that waits for it is answered with what is known."""
        if self._check is not None:
            await cancel(self._check)

    async def _ask_all(self) -> None:
        found = await asyncio.gather(*(_reason(check) for check in self.checks.values()))
        self.reasons.update(zip(self.checks, found, strict=True))

    def _tell(self) -> None:
        for part, reason in self.reasons.items():
            before, self._told[part] = self._told.get(part), reason
            if reason is not None and reason != before:
                log.error("%s: %s", part, reason, extra={"event": "health.lost", "part": part, "reason": reason})
            elif reason is None and before is not None:
                log.info("%s works again", part, extra={"event": "health.back", "part": part})


async def _reason(check: Check) -> str | None:
    try:
        async with asyncio.timeout(PATIENCE):
            await check()
    except Unavailable as error:
        return error.detail
    except TimeoutError:
        return f"it does not answer within {PATIENCE:g} s"
    except Exception as error:  # the other parts are checked all the same
        log.debug("a check failed", exc_info=error, extra={"event": "health.failed"})
        return f"it fails with {type(error).__name__}"
    return None


def check_of(name: str, folder: Path) -> Check:
    """Return the check of a folder. ``name`` is its setting."""

    async def check() -> None:
        reason = trouble_of(folder)
        if reason is not None:
            raise Unavailable(f"{name} {reason}")

    return check
