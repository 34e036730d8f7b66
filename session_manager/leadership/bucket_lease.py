"""A lease as an object in a bucket, which is replaced only under a precondition on its version.

The clocks of two machines need not agree. A candidate watches the object: if its version has not changed for the period
that is written in it, by the candidate's own clock, the holder is gone. The holder trusts a renewal for a part of the
period only, counted from when it *sent* it, so it stops before a candidate can take over.

Every holder has a ``term``, a number that only grows. Everything it stores in the bucket is named after its term. So a
holder that was stopped, lost the lease and continues cannot overwrite anything: nothing reads its term any more.

A candidate leaves a request beside the lease. A holder that heeds requests reads it with each renewal.
"""

from __future__ import annotations

import asyncio
import json
import logging
import secrets
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from typing import TypeVar

from session_manager.aio.ids import monotonic
from session_manager.domain.errors import StartupFailure, StorageDenied, StorageError
from session_manager.domain.lease import LeaseAnswer, LeaseOutcome
from session_manager.storage.conditional import ConditionalObject, Contended, Versioned

log = logging.getLogger(__name__)

T = TypeVar("T")

LEASE = "session_writer/lease"
REQUEST = "session_writer/wanted"
TRUST = 0.75  # of the period
RENEWALS = 4  # per period; two may fail
POLL = 0.5  # seconds between looks at the lease of another holder
AWAY = 2.0  # seconds between tries while the bucket cannot be reached
RELEASES = 3  # tries

OpenObject = Callable[[str, float], ConditionalObject]
"""Open an object by its name, with a time-out in seconds for each call. May block and raise StorageError."""


@dataclass(frozen=True, slots=True)
class Record:
    """The content of the object. ``period`` in seconds; ``beat`` counts renewals; people read the last two fields."""

    term: int
    holder: str
    period: float
    released: bool = False
    beat: int = 0
    instance: str = ""
    since: str = ""

    def encode(self) -> bytes:
        return json.dumps(asdict(self), indent=1).encode()

    @classmethod
    def decode(cls, content: bytes) -> Record | None:
        """Return None if the content is not a record."""
        try:
            found = json.loads(content)
            return cls(**{name: found[name] for name in cls.__slots__})
        except (ValueError, TypeError, KeyError):
            return None


class BucketLease:
    """``period`` in seconds. ``heeds_requests``: claims return the instance that asks for the lease.

    ``ours`` is the record of this process and ``previous`` the one before it; each has term 0 until it was written. All
    requests to the bucket are made in one thread.
    """

    def __init__(
        self,
        open_object: OpenObject,
        period: float,
        instance: str = "",
        *,
        heeds_requests: bool = False,
        clock: Callable[[], float] = monotonic,
    ) -> None:
        self._open = open_object
        self._period = period
        self.validity = period * TRUST
        self._heeds_requests = heeds_requests
        self._clock = clock
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="lease")
        self._objects: dict[str, ConditionalObject] = {}
        self._token = secrets.token_hex(16)
        self._held = False
        self._version = ""
        self._unchanged: tuple[str | None, float] = (None, 0.0)  # a version, and when it was first seen
        self._requested = 0  # the term whose holder was asked
        self._away = False
        self.ours = Record(0, self._token, period, instance=instance)
        self.previous = Record(0, "", period)

    @property
    def pause(self) -> float:
        if not self._held:
            return AWAY if self._away else POLL
        pause = self._period / RENEWALS
        return min(pause, AWAY) if self._away else pause

    @property
    def facts(self) -> Mapping[str, object]:
        return {"term": self.ours.term, "previous": self.previous.term, "released": self.previous.released}

    async def claim(self) -> LeaseAnswer:
        try:
            if not self._objects:  # on its own, so that a candidate that ends meanwhile does not go on to acquire
                await self._call(lambda: self._object(LEASE))
            return await self._call(self._renew if self._held else self._acquire)
        except StorageDenied as error:
            if self._held:
                raise
            raise StartupFailure(
                f"The bucket denies this instance the lease ({error.reason}): allow it to create, get, list and delete "
                "objects, and remove any retention policy; or set WRITER_LEASE=0"
            ) from error

    async def release(self) -> bool:
        if not self._objects:  # do not wait for a bucket that has never answered
            return False
        for _ in range(RELEASES):
            try:
                return await self._call(self._release)
            except StorageError:
                await asyncio.sleep(self._period / RENEWALS / RELEASES)
        log.warning("the lease could not be released and will expire", extra={"event": "writer.not_released"})
        return False

    async def close(self) -> None:
        self._thread.shutdown(wait=False, cancel_futures=True)
        for each in list(self._objects.values()):
            each.close()

    async def _call(self, work: Callable[[], T]) -> T:
        """Do the work in the thread, and log when the bucket stops and starts answering."""
        try:
            answer = await asyncio.get_running_loop().run_in_executor(self._thread, work)
        except StorageError as error:
            if not self._away:
                extra = {"event": "writer.bucket_away", "reason": error.reason, "held": self._held}
                log.warning("the bucket with the lease cannot be reached", extra=extra)
            self._away = True
            raise
        if self._away:
            log.info("the bucket with the lease can be reached again", extra={"event": "writer.bucket_back"})
        self._away = False
        return answer

    def _acquire(self) -> LeaseAnswer:
        found = self._object(LEASE).read()
        previous = self._decode(found)
        if previous.holder == self._token:
            previous = self.previous  # an earlier try, whose answer was lost
        elif found is not None and not (previous.released or self._is_stale(found.version, previous.period)):
            self._request(previous.term)
            return LeaseAnswer(LeaseOutcome.TAKEN, previous.instance)
        self.previous = previous
        # If the object was lost, terms do not start again: for that, the clock only has to be roughly right.
        term = max(previous.term + 1, int(time.time()))
        since = datetime.now(UTC).isoformat(timespec="seconds")
        try:
            self._write(replace(self.ours, term=term, since=since), found.version if found else None)
        except Contended:
            return LeaseAnswer(LeaseOutcome.TAKEN)
        self._held = True
        return LeaseAnswer(LeaseOutcome.HELD)

    def _renew(self) -> LeaseAnswer:
        try:
            self._write(replace(self.ours, beat=self.ours.beat + 1), self._version)
        except Contended:
            return LeaseAnswer(LeaseOutcome.LOST)
        return LeaseAnswer(LeaseOutcome.HELD, self._requested_by() if self._heeds_requests else "")

    def _release(self) -> bool:
        if not self._held:
            return False
        try:
            self._write(replace(self.ours, released=True), self._version)
        except Contended:
            return False
        self._held = False
        return True

    def _object(self, name: str) -> ConditionalObject:
        if name not in self._objects:
            self._objects[name] = self._open(name, self._period / RENEWALS / 2)
        return self._objects[name]

    def _decode(self, found: Versioned | None) -> Record:
        """Return a record of term 0 with our own period if the object does not exist or is not a record."""
        return (Record.decode(found.content) if found else None) or Record(0, "", self._period)

    def _is_stale(self, version: str, period: float) -> bool:
        """Return True if the object has had this version for the whole period."""
        now = self._clock()
        if self._unchanged[0] != version:
            self._unchanged = (version, now)
        return now - self._unchanged[1] >= period

    def _write(self, record: Record, version: str | None) -> None:
        """Replace the object, also if an earlier try of this process replaced it and the answer was lost.

        Raises Contended if another process has replaced it.
        """
        lease = self._object(LEASE)
        try:
            self._version = lease.replace(record.encode(), version)
        except Contended:
            found = lease.read()
            if found is None or self._decode(found).holder != self._token:
                raise
            self._version = lease.replace(record.encode(), found.version)
        self.ours = record

    def _request(self, term: int) -> None:
        """Ask the holder of ``term`` for the lease, once. It need not comply."""
        if term == self._requested:
            return
        found = self._object(REQUEST).read()
        request = json.dumps({"term": term, "by": self.ours.instance}).encode()
        with suppress(Contended):  # another candidate has just asked
            self._object(REQUEST).replace(request, found.version if found else None)
        self._requested = term

    def _requested_by(self) -> str:
        """Return the instance that asks this one for the lease, or ""."""
        with suppress(StorageError, ValueError, KeyError, TypeError):
            found = self._object(REQUEST).read()
            request = json.loads(found.content) if found else {}
            return str(request["by"]) if request["term"] == self.ours.term else ""
        return ""
