"""The lease, kept on an event loop: wait for it, renew it, tell who may write, let it go.

::

    waiting → opening → writing ⇄ lapsed → lost
                           └→ released

``lapsed``: the bucket has been away for so long that somebody else may have the lease. It comes back by itself if
nobody has. ``lost``: somebody has; there is no way back for this process.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from typing import TypeVar

from session_manager.domain.errors import NotTheWriter, StartupFailure, StorageDenied, StorageError
from session_manager.leadership.bucket_lease import RENEWALS, Lease, LeaseLost, Record
from session_manager.leadership.writer_state import WriterState

log = logging.getLogger(__name__)

T = TypeVar("T")

LOOKS = 0.5  # seconds between looks at a lease of somebody else; each is one small request
AWAY = 2.0  # seconds between tries while the bucket is away
RELEASES = 3  # tries


_WORDS = {
    WriterState.WAITING: ("another instance still has the data; this one serves once that one has let go", 2),
    WriterState.OPENING: ("the newest data is being fetched", 2),
    WriterState.LAPSED: ("the bucket that says who may write cannot be reached; reading works", 5),
    WriterState.LOST: ("another instance has taken over", 1),
    WriterState.RELEASED: ("the server stops; another instance takes over", 1),
}


class WriterGuard:
    """``open_lease`` may block and fail with StorageError; ``period`` in seconds is that of the lease.

    ``ask`` is told once the term of each holder that is waited for, and may do the same.
    """

    def __init__(
        self, open_lease: Callable[[], Lease], period: float, ask: Callable[[int], None] = lambda term: None
    ) -> None:
        self._open_lease = open_lease
        self._period = period
        self._ask = ask
        self._asked = 0
        self._lease: Lease | None = None
        self._phase = WriterState.WAITING
        self._away = False
        self._lost = asyncio.Event()
        self._keeping: asyncio.Task[None] | None = None
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="writer-lease")

    @property
    def state(self) -> WriterState:
        opened = self._phase in (WriterState.OPENING, WriterState.WRITING)
        return WriterState.LAPSED if opened and not self.held else self._phase

    @property
    def held(self) -> bool:
        """Whether nobody else can be the writer, now."""
        return self._lease is not None and self._lease.held

    @property
    def lacks(self) -> str | None:
        """Why not everything is served, in words."""
        state = self.state
        return None if state is WriterState.WRITING else _WORDS[state][0]

    def check(self, *, reading: bool = False) -> None:
        """NotTheWriter: this process may not write, or, for ``reading``, has no data or not the newest."""
        state = self.state
        readable = reading and self._phase is WriterState.WRITING
        if state is not WriterState.WRITING and not readable:
            raise NotTheWriter(*_WORDS[state])

    def fence(self) -> None:
        """NotTheWriter: somebody else may be the writer by now. For what writes to the database and to the bucket."""
        if not self.held:
            raise NotTheWriter(*_WORDS[self.state])

    async def acquire(self) -> tuple[Record, Record]:
        """Wait until it is ours: our record, and the one before it (of term 0: there was none)."""
        log.info("waiting for the lease", extra={"event": "writer.waiting"})
        lease = self._lease = await self._insist(self._open_lease)
        ours, before = await self._insist(partial(self._try, lease))
        self._phase = WriterState.OPENING
        self._keeping = asyncio.create_task(self._keep(lease), name="writer lease")
        extra = {"event": "writer.acquired", "term": ours.term, "previous": before.term, "released": before.released}
        log.info("this instance writes", extra=extra)
        return ours, before

    def opened(self) -> None:
        """The data is here and current."""
        if self._phase is WriterState.OPENING:
            self._phase = WriterState.WRITING

    async def until_lost(self) -> None:
        await self._lost.wait()

    async def release(self) -> bool:
        """Let the next one take over. Nothing may be written any more, here or to the bucket. Whether that was told.

        Also of one that still waits: the last look may have got it.
        """
        await self._stop_keeping()
        if self._lease is None or self._phase in (WriterState.LOST, WriterState.RELEASED):
            return False
        self._phase = WriterState.RELEASED
        for _ in range(RELEASES):
            with suppress(LeaseLost):
                if await self._call(self._lease.release):
                    log.info("the lease is let go", extra={"event": "writer.released"})
                    return True
                await asyncio.sleep(self._period / RENEWALS / RELEASES)
        log.warning("the lease could not be let go; it ends by itself", extra={"event": "writer.not_released"})
        return False

    async def close(self) -> None:
        """Without release the lease ends by itself, a period from now."""
        await self._stop_keeping()
        lease, self._lease = self._lease, None
        if lease is not None:
            await asyncio.get_running_loop().run_in_executor(self._thread, lease.close)
        self._thread.shutdown(wait=False, cancel_futures=True)

    async def _stop_keeping(self) -> None:
        if self._keeping is not None:
            self._keeping.cancel()
            await asyncio.wait([self._keeping])

    def _try(self, lease: Lease) -> tuple[Record, Record] | None:
        got = lease.try_acquire()
        if got is None and lease.seen != self._asked:
            self._ask(lease.seen)
            self._asked = lease.seen
        return got

    async def _insist(self, work: Callable[[], T | None]) -> T:
        """Ask until there is something."""
        while True:
            try:
                answer = await self._answer(work)
            except StorageDenied as error:
                raise StartupFailure(
                    f"The bucket does not let this instance say that it writes ({error.reason}): it needs the right to "
                    "create, get, list and delete objects, and no retention policy; or set WRITER_LEASE=0"
                ) from error
            if answer is not None:
                return answer
            await asyncio.sleep(AWAY if self._away else LOOKS)

    async def _keep(self, lease: Lease) -> None:
        pause = self._period / RENEWALS
        while True:
            await asyncio.sleep(min(pause, AWAY) if self._away else pause)
            try:
                await self._call(lease.renew)
            except LeaseLost:
                self._phase = WriterState.LOST
                self._lost.set()
                log.critical("another instance has taken over", extra={"event": "writer.lost"})
                return

    async def _call(self, work: Callable[[], None]) -> bool:
        """Whether the bucket answered."""

        def done() -> bool:
            work()
            return True

        return await self._answer(done) or False

    async def _answer(self, work: Callable[[], T]) -> T | None:
        """What the bucket says; None when it does not."""
        try:
            answer = await asyncio.get_running_loop().run_in_executor(self._thread, work)
        except StorageError as error:
            if self._phase is WriterState.WAITING and isinstance(error, StorageDenied):
                raise
            if not self._away:
                extra = {"event": "writer.bucket_away", "reason": error.reason, "held": self.held}
                log.warning("the bucket of the lease does not answer", extra=extra)
            self._away = True
            return None
        if self._away:
            log.info("the bucket of the lease answers again", extra={"event": "writer.bucket_back"})
        self._away = False
        return answer
