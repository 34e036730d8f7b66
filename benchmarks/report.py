"""The figures as text: ratios first, each with its target."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from statistics import median
from typing import Any

from benchmarks.chat import Runs
from benchmarks.peers import GO, OURS, PASS_THROUGH, POD
from benchmarks.sleeping import SESSIONS

PASS_THROUGH_AIM = 0.60
GO_AIM = 0.25
ADDED_AIM_MS = 1.2
PAGE_AIM_MS = 20.0
PER = 10_000  # sessions for which memory is reported


def ratio(runs: Mapping[str, Runs], other: str, *, of: str = "rate") -> float | None:
    """Return the median ratio of our rate to theirs; for ``cpu`` of theirs to ours, with Redis. Higher is better."""
    if other not in runs:
        return None
    ours, theirs = runs[OURS], runs[other]
    if of == "rate":
        return median(a / b for a, b in zip(ours.rate, theirs.rate, strict=True))
    return median(b / (a + r) for a, r, b in zip(ours.cpu, ours.redis, theirs.cpu, strict=True))


def throughput(runs: Mapping[str, Runs]) -> dict[str, Any]:
    ratios = {name: ratio(runs, name) for name in (PASS_THROUGH, GO)}
    return {"peers": {name: run.summary() for name, run in runs.items()}, "ratios": ratios}


def latency(runs: Mapping[str, Runs]) -> dict[str, Any]:
    added = median(a - b for a, b in zip(runs[OURS].p50, runs[POD].p50, strict=True))
    return {"peers": {name: run.summary() for name, run in runs.items()}, "added_ms": added}


def wake(tries: Mapping[str, list[float]]) -> dict[str, Any]:
    both = {name: {"p50_ms": median(values), "max_ms": max(values)} for name, values in tries.items()}
    return {**both, "added_ms": both["wake"]["p50_ms"] - both["bare"]["p50_ms"]}


def warm(tries: Mapping[str, list[float]]) -> dict[str, Any]:
    both = {name: {"p50_ms": median(values), "max_ms": max(values)} for name, values in tries.items()}
    return {**both, "ratio": median(a / b for a, b in zip(tries["cold"], tries["warm"], strict=True))}


def memory(footprints: Mapping[str, Mapping[str, int]]) -> dict[str, Any]:
    before, after = footprints["before"], footprints["after"]
    grown = {name: (after[name] - before[name]) * PER / SESSIONS / 2**20 for name in after}
    return {"mib_per_10000": grown, **footprints}


# -- as text -----------------------------------------------------------------------------------------------------------


def text(results: Mapping[str, Any]) -> str:
    parts = [
        ("chat", _chat),
        ("latency", _latency),
        ("wake", _wake),
        ("warm", _warm),
        ("memory", _memory),
        ("list", _list),
    ]
    return "\n".join(line for name, tell in parts if name in results for line in (*tell(results[name]), ""))


def _chat(found: Mapping[str, Any]) -> Iterator[str]:
    yield "Durable chat on awake sessions, 32 connections, 500 sessions"
    yield from _table(found["peers"])
    for name, aim in ((PASS_THROUGH, PASS_THROUGH_AIM), (GO, GO_AIM)):
        reached = found["ratios"][name]
        if reached is not None:
            yield f"  {reached:5.0%} of {name}'s rate   {judge(reached >= aim, f'at least {aim:.0%}')}"


def _latency(found: Mapping[str, Any]) -> Iterator[str]:
    yield "One caller"
    yield from _table(found["peers"])
    added = found["added_ms"]
    verdict = judge(added <= ADDED_AIM_MS, f"at most {ADDED_AIM_MS} ms")
    yield f"  {added:.2f} ms more than the pod alone at p50   {verdict}"


def _wake(found: Mapping[str, Any]) -> Iterator[str]:
    yield "From a message to a sleeping session to its reply"
    for name, what in (("wake", ""), ("bare", ", starting the same process alone")):
        yield f"  {found[name]['p50_ms']:7.0f} ms at p50, {found[name]['max_ms']:.0f} ms at most{what}"
    yield f"  {found['added_ms']:7.0f} ms more at p50"


def _warm(found: Mapping[str, Any]) -> Iterator[str]:
    yield f"From creating a session to its first reply: {found['ratio']:.1f} times as fast with warm pods"
    for name, what in (("cold", "cold"), ("warm", "warm"), ("awake", "the next message, without creating")):
        yield f"  {found[name]['p50_ms']:7.1f} ms at p50, {found[name]['max_ms']:.1f} ms at most, {what}"


def _memory(found: Mapping[str, Any]) -> Iterator[str]:
    grown = found["mib_per_10000"]
    yield "Memory for each 10,000 sleeping sessions, one message each"
    yield f"  {grown['front']:7.1f} MiB in the front door"
    yield f"  {grown['redis']:7.1f} MiB in Redis"
    yield f"  {grown['database']:7.1f} MiB on disk in SQLite"


def _list(found: Mapping[str, Any]) -> Iterator[str]:
    p50, p99 = found["p50_ms"], found["p99_ms"]
    verdict = judge(p50 < PAGE_AIM_MS, f"under {PAGE_AIM_MS:.0f} ms")
    yield f"GET /sessions, first page of {found['sessions']:,.0f}"
    yield f"  {p50:.1f} ms at p50, {p99:.1f} ms at p99   {verdict}"


def _table(peers: Mapping[str, Mapping[str, float]]) -> Iterator[str]:
    yield f"  {'':16} {'req/s':>8} {'p50 ms':>8} {'p99 ms':>8} {'CPU µs/req':>11}"
    for name, found in peers.items():
        redis = f" + {found['redis_us']:.0f} in Redis" if "redis_us" in found else ""
        cells = f"{found['rate']:8,.0f} {found['p50_ms']:8.2f} {found['p99_ms']:8.2f} {found['cpu_us']:11.0f}"
        yield f"  {name:16} {cells}{redis}"


def judge(reached: bool, aim: str) -> str:
    return f"(aim: {aim}, {'reached' if reached else 'missed'})"
