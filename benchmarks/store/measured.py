"""Appends by one and by many callers, reads of long lists and of long sessions. The sides take turns."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from statistics import median, quantiles
from time import perf_counter

from benchmarks.progress import say
from benchmarks.store.sides import Ours, Side, as_stored, new_event
from session_manager.domain.adk.model import AdkKey

SESSIONS = 10_000
EVENTS = 3_000
RECENT = 50
CALLERS = (1, 32)
_AT_ONCE = 64
_BATCH = 500
LISTER, TALKER = "lister", "talker"


@dataclass
class Sample:
    """Medians of calls per second, milliseconds, and microseconds of CPU per call."""

    rate: list[float] = field(default_factory=list)
    p50: list[float] = field(default_factory=list)
    p99: list[float] = field(default_factory=list)
    cpu: list[float] = field(default_factory=list)

    def add(self, seconds: Sequence[float], lasted: float, cpu: float) -> None:
        cut = quantiles(seconds, n=100, method="inclusive") if len(seconds) > 1 else [seconds[0]] * 99
        self.rate.append(len(seconds) / lasted)
        self.p50.append(cut[49] * 1e3)
        self.p99.append(cut[98] * 1e3)
        self.cpu.append(cpu / len(seconds) * 1e6)

    def medians(self) -> tuple[float, float, float, float]:
        return median(self.rate), median(self.p50), median(self.p99), median(self.cpu)


Read = Callable[[], Awaitable[int]]
Results = dict[str, dict[str, Sample]]
"""Figures by operation, then by side."""


async def appends(sides: Sequence[Side], rounds: int, seconds: float) -> Results:
    results: Results = {}
    for callers in CALLERS:
        what = f"append, {callers} caller{'s' if callers > 1 else ''}"
        samples = results[what] = {side.name: Sample() for side in sides}
        for _ in range(rounds):
            for side in sides:
                await _append_for(side, callers, seconds, samples[side.name])
        _tell(what, samples)
    return results


async def _append_for(side: Side, callers: int, seconds: float, sample: Sample) -> None:
    sessions = [await side.create(f"user {n}") for n in range(callers)]
    taken: list[float] = []

    async def caller(session: object) -> None:
        while (begun := perf_counter()) < end:
            await side.append(session, new_event({"n": len(taken)}))
            taken.append(perf_counter() - begun)

    started, before = perf_counter(), _cpu()
    end = started + seconds
    await asyncio.gather(*(caller(session) for session in sessions))
    sample.add(taken, perf_counter() - started, _cpu() - before)


async def fill(ours: Ours) -> AdkKey:
    """Create a user with many sessions and a session with many events, and return the key of the latter."""
    for _ in range(SESSIONS // _AT_ONCE + 1):
        await asyncio.gather(*(ours.create(LISTER) for _ in range(_AT_ONCE)))
    return await talk(ours)


async def talk(ours: Ours) -> AdkKey:
    """Create a session with many events."""
    key: AdkKey = (await ours.create(TALKER)).key
    for _ in range(EVENTS // _BATCH):
        await ours.store.adk_append(key, [as_stored(new_event()) for _ in range(_BATCH)])
    return key


async def adopt(ours: Ours) -> None:
    """Create our records for existing rows."""
    while (await ours.store.adk_sweep(_BATCH))[0]:
        pass


async def reads(ours: Ours, theirs: Side, key: AdkKey, rounds: int) -> Results:
    """Measure both sides on the same database."""
    both: tuple[Side, Side] = (ours, theirs)
    asked: dict[str, dict[Side, Read]] = {
        f"list the first {RECENT} of {SESSIONS:,}": {
            ours: partial(ours.list_first, LISTER, RECENT),
            theirs: partial(theirs.list_all, LISTER),  # it has no pages
        },
        f"list all {SESSIONS:,}": {side: partial(side.list_all, LISTER) for side in both},
        f"get the last {RECENT} of {EVENTS:,} events": {side: partial(side.get, key, RECENT) for side in both},
        f"get {EVENTS:,} events": {side: partial(side.get, key, None) for side in both},
    }
    results: Results = {}
    for what, calls in asked.items():
        samples = results[what] = {side.name: Sample() for side in calls}
        for _ in range(rounds):
            for side, call in calls.items():
                await _read(call, samples[side.name])
        _tell(what, samples)
    return results


async def _read(call: Read, sample: Sample, at_most: int = 30, enough: float = 1.0) -> None:
    taken: list[float] = []
    started, before = perf_counter(), _cpu()
    while len(taken) < at_most and perf_counter() - started < enough:
        begun = perf_counter()
        if not await call():
            raise RuntimeError("nothing was read")
        taken.append(perf_counter() - begun)
    sample.add(taken, perf_counter() - started, _cpu() - before)


def _cpu() -> float:
    times = os.times()
    return times.user + times.system


def _tell(what: str, samples: dict[str, Sample]) -> None:
    for name, sample in samples.items():
        rate, p50, p99, _ = sample.medians()
        say(f"{what}: {name} {rate:,.0f}/s, p50 {p50:.2f} ms, p99 {p99:.2f} ms")
