"""The memory of ten thousand sleeping sessions, and the time to list a page of them."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from dataclasses import asdict, dataclass

from benchmarks import load
from benchmarks.chat import wake
from benchmarks.front import Front, gathered
from benchmarks.progress import say

SESSIONS = 10_000
WAVE = 1_000
FIRST = 300  # sessions created before the measurement, to warm up


@dataclass(frozen=True, slots=True)
class Footprint:
    """Bytes of the front door's resident memory, of Redis' used memory, and of the database with its WAL folded in."""

    front: int
    redis: int
    database: int


async def footprint(front: Front) -> Footprint:
    return Footprint(front.process.memory, await front.redis_memory(), _database_bytes(front))


def _database_bytes(front: Front) -> int:
    with closing(sqlite3.connect(f"file:{front.database}?mode=ro", uri=True)) as database:
        pages: int = database.execute("PRAGMA page_count").fetchone()[0]
        size: int = database.execute("PRAGMA page_size").fetchone()[0]
        return pages * size


async def make(front: Front, number: int) -> None:
    """Create sessions, wake each with one message, and put them to sleep."""
    for done in range(0, number, WAVE):
        wave = await front.create(min(WAVE, number - done))
        await wake(front, wave)
        await gathered(lambda session: front.expect(200, "POST", f"/session/{session}/sleep"), wave)
        say(f"{done + len(wave):,} of {number:,} sessions sleep")


async def memory(front: Front) -> dict[str, dict[str, int]]:
    """Return the footprints before and after creating SESSIONS sleeping sessions."""
    await make(front, FIRST)
    before = await footprint(front)
    await make(front, SESSIONS)
    return {"before": asdict(before), "after": asdict(await footprint(front))}


async def first_page(front: Front, seconds: float) -> dict[str, float]:
    """Return the milliseconds of ``GET /sessions`` for one caller."""
    total = (await front.expect(200, "GET", "/sessions"))["total"]
    request = load.get("/sessions", Authorization=f"Bearer {front.key}")
    sample = await load.run(front.port, [[request]], seconds)
    return {"sessions": total, "p50_ms": sample.quantile(0.5) * 1e3, "p99_ms": sample.quantile(0.99) * 1e3}
