"""Who writes: a lease in the bucket, for a database that is a file on one machine.

No two machines' clocks have to agree. Whoever wants the lease watches the object: when its version has not changed for
the period that stands in it, by the watcher's own clock, its holder has gone. The holder counts from the moment at
which it *sent* its last renewal, and trusts for a part of the period only, so it stops before anybody could have taken
over. All clocks here count while the machine sleeps, where the system has such a clock.

Every holder has a ``term``, a number that only grows. What is written to the bucket is named after it, so whoever was
stopped, lost the lease and goes on can overwrite nothing: it writes into a term that nobody looks at any more.
"""

from __future__ import annotations

import json
import secrets
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime

from session_manager.storage.conditional import Contended, LeaseObject, Versioned

TRUST = 0.75  # of the period: what the holder believes in
RENEWALS = 4  # in a period: two may fail


def monotonic() -> float:
    """Seconds, on a clock that goes on while the machine is suspended, where there is one."""
    clock = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)
    return time.clock_gettime(clock)


@dataclass(frozen=True, slots=True)
class Record:
    """What the object says. ``period`` in seconds; ``beat`` counts renewals; ``instance`` and ``since`` for people."""

    term: int
    holder: str
    period: float
    released: bool = False
    beat: int = 0
    instance: str = ""
    since: str = ""

    def encoded(self) -> bytes:
        return json.dumps(asdict(self), indent=1).encode()


def decoded(content: bytes) -> Record | None:
    """None for what is no record."""
    try:
        found = json.loads(content)
        return Record(**{name: found[name] for name in Record.__slots__})
    except (ValueError, TypeError, KeyError):
        return None


class LeaseLost(Exception):
    """Somebody else holds it."""


class Lease:
    """Blocking, for one thread at a time, except that ``held`` may be asked from anywhere. ``clock`` in seconds."""

    def __init__(
        self, store: LeaseObject, period: float, instance: str = "", clock: Callable[[], float] = monotonic
    ) -> None:
        self._object = store
        self._period = period
        self._instance = instance
        self._clock = clock
        self._token = secrets.token_hex(16)
        self._version = ""
        self._until = float("-inf")
        self._seen: tuple[str | None, float] = (None, 0.0)
        self._before = Record(0, "", period)
        self.record: Record | None = None
        self.seen = 0  # the term of whoever holds it, while somebody else does

    @property
    def held(self) -> bool:
        """Whether nobody else can have it. By this machine's clock alone."""
        return self._clock() < self._until

    @property
    def remaining(self) -> float:
        """Seconds until ``held`` ends by itself."""
        return max(0.0, self._until - self._clock())

    def try_acquire(self) -> tuple[Record, Record] | None:
        """Take it if it is free: our record, and the one before it, which is of term 0 where nobody had it yet.

        None while somebody else holds it; to be called again, several times in a period.
        """
        found = self._object.read()
        before = self._read(found)
        if before.holder == self._token:
            before = self._before  # an earlier try, whose answer was lost
        elif found is not None and not (before.released or self._is_stale(found.version, before.period)):
            self.seen = before.term
            return None
        self._before = before
        # Should the object have been lost, terms do not begin anew: the clock only has to be roughly right for that.
        term = max(before.term + 1, int(time.time()))
        since = datetime.now(UTC).isoformat(timespec="seconds")
        wanted = Record(term, self._token, self._period, instance=self._instance, since=since)
        try:
            self._write(wanted, found.version if found else None)
        except LeaseLost:
            return None
        return wanted, before

    def renew(self) -> None:
        """LeaseLost: somebody else has it, and ``held`` is over. StorageError: try again."""
        if self.record is None:
            raise LeaseLost
        self._write(replace(self.record, beat=self.record.beat + 1), self._version)

    def release(self) -> None:
        """Let the next one take it at once. Nothing may be written any more when this is called."""
        if self.record is None:
            return
        self._until = float("-inf")
        self._put(replace(self.record, released=True), self._version)
        self.record = None

    def close(self) -> None:
        self._object.close()

    def _read(self, found: Versioned | None) -> Record:
        """Of what nobody can read, the period is ours."""
        known = decoded(found.content) if found else None
        return known or Record(0, "", self._period)

    def _is_stale(self, version: str, period: float) -> bool:
        """Whether it has been this version for the whole period."""
        now = self._clock()
        if self._seen[0] != version:
            self._seen = (version, now)
        return now - self._seen[1] >= period

    def _write(self, record: Record, version: str | None) -> None:
        sent = self._clock()
        try:
            self._version = self._put(record, version)
        except LeaseLost:
            self._until = float("-inf")
            raise
        self.record = record
        self._until = sent + self._period * TRUST

    def _put(self, record: Record, version: str | None) -> str:
        """Also where an earlier try of ours, whose answer was lost, got there first."""
        try:
            return self._object.replace(record.encoded(), version)
        except Contended:
            found = self._object.read()
            if found is None or self._read(found).holder != self._token:
                raise LeaseLost from None
        try:
            return self._object.replace(record.encoded(), found.version)
        except Contended:
            raise LeaseLost from None
