"""The figures as tables, each ratio with its target."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from benchmarks.store.measured import EVENTS, RECENT, SESSIONS, Results


@dataclass(frozen=True)
class Aim:
    """The target: ``factor`` times the rate of SqliteSessionService, or under ``milliseconds`` at p50."""

    factor: float | None = None
    milliseconds: float | None = None


SQLITE = "SQLite"
AIMS = {
    "append, 32 callers": Aim(factor=5.0),
    f"list the first {RECENT} of {SESSIONS:,}": Aim(milliseconds=5.0),
    f"get the last {RECENT} of {EVENTS:,} events": Aim(milliseconds=5.0),
}


def text(engine: str, results: Results) -> str:
    return "\n".join(_lines(engine, results))


def _lines(engine: str, results: Results) -> Iterator[str]:
    yield f"{engine:36} {'':24} {'per s':>9} {'p50 ms':>9} {'p99 ms':>9} {'CPU us':>9}   ours : theirs"
    for what, samples in results.items():
        rates = [sample.medians()[0] for sample in samples.values()]
        for name, sample in samples.items():
            rate, p50, p99, cpu = sample.medians()
            first = name == next(iter(samples))
            verdict = f"{rates[0] / rates[-1]:8.1f} x {_verdict(engine, what, rates, p50)}" if first else ""
            shown = what if first else ""
            yield f"{shown:36} {name:24} {rate:9,.0f} {p50:9.2f} {p99:9.2f} {cpu:9,.0f} {verdict}"


def _verdict(engine: str, what: str, rates: list[float], p50: float) -> str:
    aim = AIMS.get(what)
    if aim is None or (aim.factor is not None and engine != SQLITE):
        return ""
    if aim.factor is not None:
        return f"(aim {aim.factor:g} x: {_word(rates[0] >= aim.factor * rates[-1])})"
    limit = aim.milliseconds or 0.0
    return f"(aim {limit:g} ms: {_word(p50 < limit)})"


def _word(reached: bool) -> str:
    return "reached" if reached else "MISSED"
