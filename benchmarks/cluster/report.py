"""The figures as text: each with its floor and its target, and how the cluster differs from a default one."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from statistics import median
from typing import Any

from benchmarks.cluster.children import Rates
from benchmarks.cluster.cost import Cost
from benchmarks.cluster.idle import Use
from benchmarks.cluster.scale import Compared
from benchmarks.cluster.wake import BARE
from benchmarks.cluster.warm import Burst, is_saturated
from benchmarks.report import judge

WAKE_AIM_MS = 100.0
WARM_AIM_MS = 50.0
CHILDREN_AIM = 0.80


def text(results: Mapping[str, Any]) -> str:
    parts: list[tuple[str, Callable[[Any], Iterator[str]]]] = [
        ("cluster", _cluster),
        ("wake", _wake),
        ("warm", _warm),
        ("children", _children),
        ("cost", _cost),
        ("idle", _idle),
        ("scale", _scale),
    ]
    return "\n".join(line for name, tell in parts if name in results for line in (*tell(results[name]), ""))


def _cluster(lines: list[str]) -> Iterator[str]:
    yield "Differences from a default cluster"
    yield from (f"  {line}" for line in lines or ["  unknown: it is the cluster of KUBECONFIG"])


def _wake(found: Mapping[str, list[float]]) -> Iterator[str]:
    yield f"From a message to a sleeping session to its reply, {len(found[BARE])} rounds"
    bare = median(found[BARE])
    yield from (_tries(name, values) for name, values in found.items())
    for name, values in found.items():
        if name != BARE:
            added = (median(values) - bare) * 1e3
            yield f"  {added:7.0f} ms more with {name}   {judge(added <= WAKE_AIM_MS, f'at most {WAKE_AIM_MS:.0f} ms')}"


def _tries(name: str, values: list[float]) -> str:
    ms = sorted(value * 1e3 for value in values)
    return f"  {name:8} {median(ms):7.0f} ms at p50, {ms[0]:.0f} to {ms[-1]:.0f} ms"


def _warm(found: Mapping[str, Burst]) -> Iterator[str]:
    yield "A pool of warm pods, filled before"
    yield f"  {'':20} {'offered/s':>9} {'reached/s':>9} {'p50 ms':>8} {'p99 ms':>8} {'without a warm pod':>19}"
    for name, burst in found.items():
        cells = f"{burst.offered:9.0f} {burst.reached:9.1f} {burst.p50_ms:8.0f} {burst.p99_ms:8.0f} {burst.cold:19}"
        yield f"  {name:20} {cells}"
    for name in ("created", "sleeping"):
        yield f"  {name} -> reply: p99   {judge(found[name].p99_ms < WARM_AIM_MS, f'under {WARM_AIM_MS:.0f} ms')}"
    asleep = [burst for name, burst in found.items() if name.startswith("sleeping")]
    most = max(burst.reached for burst in asleep)
    yield f"  {'saturated at' if is_saturated(asleep[-1]) else 'not saturated at'} {most:.0f} replies per second"


def _children(found: Mapping[str, Rates]) -> Iterator[str]:
    yield "From create until all children are there, sessions per second, alternating rounds"
    for scaler, rates in found.items():
        part = median(ours / loop for ours, loop in zip(rates.product, rates.loop, strict=True))
        verdict = judge(part >= CHILDREN_AIM, f"at least {CHILDREN_AIM:.0%}")
        yield f"  {scaler:8} {median(rates.product):6.0f}/s beside {median(rates.loop):6.0f}/s of a plain loop"
        yield f"  {'':8} {part:6.0%} of it   {verdict}"
        for name, used in (("product", rates.product_cpu), ("loop", rates.loop_cpu)):
            told = ", ".join(f"{who} {seconds / rates.sessions * 1e3:.1f}" for who, seconds in used.items())
            yield f"  {'':8} CPU ms per session, {name}: {told}"


def _cost(found: Mapping[str, Mapping[str, Cost]]) -> Iterator[str]:
    yield "For one session: writes to etcd, and API requests by client (watches left out)"
    for scaler, steps in found.items():
        for step, cost in steps.items():
            writes = "?" if cost.etcd_writes is None else f"{cost.etcd_writes:.1f}"
            yield f"  {scaler:8} {step:8} {writes:>6} writes   {_clients(cost.requests)}"


def _clients(requests: Mapping[str, float] | None) -> str:
    if requests is None:
        return "the cluster has no audit log of its requests"
    told = ", ".join(f"{name} {number:.1f}" for name, number in requests.items() if number >= 0.05)
    return f"{sum(requests.values()):.1f} requests: {told}"


def _idle(found: Mapping[int, Use]) -> Iterator[str]:
    yield "Sessions that sleep: resident memory, and seconds of processor time per minute"
    for number, used in found.items():
        operator = f"operator {used.operator_mib:6.0f} MiB {used.operator_cpu:6.2f} s"
        yield f"  {number:7,} sessions   {operator}   front door {used.front_mib:6.0f} MiB {used.front_cpu:6.2f} s"


def _scale(found: Compared) -> Iterator[str]:
    yield f"{found.sessions} sessions with native and {found.sessions} with KEDA: seconds of processor time per minute"
    yield f"  native alone    {_used(found.alone)}"
    for scaler, used in found.both.items():
        yield f"  both, {scaler:8}  {_used(used)}"
    watched = "not within the time given" if found.watched_s is None else f"after {found.watched_s:.0f} s"
    yield f"  KEDA watched all of its sessions {watched}"
    yield from (_tries(scaler, values) for scaler, values in found.wakes_s.items())


def _used(used: Use) -> str:
    others = ", ".join(f"{name} {seconds:.1f}" for name, seconds in used.cluster_cpu.items())
    return f"operator {used.operator_cpu:.2f}, front door {used.front_cpu:.2f}" + (f"; {others}" if others else "")
