"""Which machine's pods count, in Redis: the hash ``machine``."""

from __future__ import annotations

import logging

from session_manager.activity.link import Link, load_script
from session_manager.activity.protocol import Seat
from session_manager.activity.resp import RedisError
from session_manager.domain.errors import ActivityUnavailable

log = logging.getLogger(__name__)

MACHINE = load_script("machine")
LET_GO = load_script("let_go")


class RedisMachines:
    """Machines on the Redis of ``link``; ``period`` in seconds."""

    def __init__(self, link: Link, period: float) -> None:
        self._link = link
        self._period_ms = round(period * 1000)

    async def hold(self, machine: str, *, believes: bool, follows: bool) -> tuple[Seat, str]:
        args = (b"", b"", machine, self._period_ms, int(believes), int(follows))
        try:
            seat, other = await self._link.script(MACHINE, args)
        except RedisError as error:  # full, or a replica by now: may be mended, and nothing can be decided meanwhile
            log.warning("Redis refuses (%s)", error.code, extra={"event": "machine.refused", "code": error.code})
            raise ActivityUnavailable from None
        return Seat(seat.decode()), other.decode()

    async def let_go(self, machine: str) -> None:
        await self._link.script(LET_GO, (b"", b"", machine))
