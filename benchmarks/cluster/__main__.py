"""``python -m benchmarks.cluster``: measure on the cluster of KUBECONFIG, with progress on stderr."""

from __future__ import annotations

import argparse
import json
import shutil
import signal
import sys
import tempfile
import traceback
from collections.abc import Awaitable, Callable
from dataclasses import asdict, dataclass, is_dataclass
from pathlib import Path
from typing import Any

import uvloop

from benchmarks import parts
from benchmarks.cluster import children, cost, idle, localkube, report, scale, wake, warm
from benchmarks.cluster.kubectl import define_kinds, serves_keda
from benchmarks.cluster.product import product
from benchmarks.processes import CannotStart
from benchmarks.progress import say


@dataclass(frozen=True, slots=True)
class Sizes:
    """The size of each part. ``faster``: calls per second after ``rate``, until saturation. ``seconds``: idle time.

    ``children_keda`` is smaller: KEDA lags for minutes after a thousand sessions, which would affect later parts.
    """

    wakes: int = 20
    pool: int = 60
    rate: float = 20
    faster: tuple[float, ...] = (40, 80, 160)
    children: int = 1000
    children_keda: int = 200
    cost: int = 10
    idle: tuple[int, ...] = (1000, 5000)
    seconds: float = 60
    scaled: int = 300
    scaled_wakes: int = 10


QUICK = Sizes(
    wakes=2,
    pool=2,
    faster=(30,),
    children=16,
    children_keda=8,
    cost=2,
    idle=(5, 10),
    seconds=3,
    scaled=3,
    scaled_wakes=2,
)  # a trial run


@dataclass(frozen=True, slots=True)
class Run:
    """``scalers``: the scalers that the cluster supports."""

    sizes: Sizes
    folder: Path
    scalers: list[str]

    async def wake(self) -> Any:
        async with product(self.folder) as it:
            return await wake.compare(it, self.scalers, self.sizes.wakes)

    async def warm(self) -> Any:
        async with product(self.folder) as it:
            return await warm.measure(it, self.sizes.pool, self.sizes.rate, self.sizes.faster)

    async def cost(self) -> Any:
        async with product(self.folder, localkube.AUDITED) as it:
            return {scaler: await cost.measure(it, scaler, self.sizes.cost) for scaler in self.scalers}

    async def scale(self) -> Any:
        if "keda" not in self.scalers:
            raise CannotStart("scale: the cluster has no KEDA")
        sizes = self.sizes
        where = self.folder
        async with product(where, until_gone=False) as native, product(where, until_gone=False) as keda:
            return await scale.measure(native, keda, sizes.scaled, sizes.scaled_wakes, sizes.seconds)

    async def children(self) -> Any:
        found = {}
        for scaler in self.scalers:
            number = self.sizes.children_keda if scaler == "keda" else self.sizes.children
            async with product(self.folder) as it:
                found[scaler] = await children.compare(it, scaler, number)
        return found

    async def idle(self) -> Any:
        async with product(self.folder, until_gone=False) as it:
            return await idle.measure(it, self.sizes.idle, self.sizes.seconds)


# In the order in which the parts disturb each other least.
PARTS: dict[str, Callable[[Run], Awaitable[Any]]] = {
    "wake": Run.wake,
    "warm": Run.warm,
    "cost": Run.cost,
    "children": Run.children,
    "scale": Run.scale,
    "idle": Run.idle,
}


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.cluster", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a few rounds of each: a trial run")
    return parts.arguments(parser, PARTS)


async def measure(given: argparse.Namespace, folder: Path) -> dict[str, Any]:
    define_kinds()
    scalers = ["native", "keda"] if serves_keda() else ["native"]
    run = Run(QUICK if given.quick else Sizes(), folder, scalers)
    results: dict[str, Any] = {"cluster": localkube.settings()}
    for name in (name for name in PARTS if name in given.only):
        say(name)
        try:
            results[name] = await PARTS[name](run)
        except (TimeoutError, RuntimeError):
            traceback.print_exc()  # the other figures are still useful
            continue
        print(report.text({name: results[name]}), file=sys.stderr, flush=True)
    return results


def _plain(value: Any) -> Any:
    return asdict(value) if is_dataclass(value) and not isinstance(value, type) else str(value)


def main() -> int:
    given = arguments()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    folder = Path(tempfile.mkdtemp(prefix="bench-"))
    try:
        results = uvloop.run(measure(given, folder))
    except CannotStart as error:
        print(error, file=sys.stderr)
        return 1
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    print(json.dumps(results, indent=2, default=_plain) if given.json else report.text(results))
    return 0 if set(given.only) <= set(results) else 1


if __name__ == "__main__":
    sys.exit(main())
