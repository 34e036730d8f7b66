"""``python -m benchmarks``: run all benchmarks, with progress on stderr and the figures on stdout."""

from __future__ import annotations

import argparse
import json
import platform
import shutil
import signal
import sys
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import uvloop

from benchmarks import chat, parts, peers, report, sleeping, wake, warm
from benchmarks.cores import Cores
from benchmarks.front import front_door
from benchmarks.processes import CannotStart, Process, free_port, python
from benchmarks.progress import say

PARTS = ("chat", "latency", "wake", "warm", "memory", "list")
WAKES = 10


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--runs", type=int, default=5, help="alternating runs of each peer (5)")
    parser.add_argument("--seconds", type=float, default=3.0, help="of each run (3)")
    parser.add_argument("--redis-with-front", action="store_true", help="Redis on the front door's core")
    parser.add_argument("--folder", type=Path, help="folder for the data during the run, on the disk to be measured")
    return parts.arguments(parser, PARTS)


async def measure(given: argparse.Namespace, folder: Path) -> dict[str, Any]:
    cores = Cores()
    cores.pin_client()
    say(f"servers on core {cores.servers}, client, pod and Redis on core {cores.client}, data in {folder}")
    results: dict[str, Any] = {"machine": machine()}
    if {"chat", "latency"} & set(given.only):
        results |= await measure_chat(given, cores, folder)
    if "wake" in given.only:
        async with front_door(cores, folder / "wake") as front:
            results["wake"] = report.wake(await wake.compare(front, cores, WAKES))
    if "warm" in given.only:
        async with front_door(cores, folder / "warm", classes=warm.write_classes(folder)) as front:
            results["warm"] = report.warm(await warm.compare(front, WAKES))
    if {"memory", "list"} & set(given.only):
        results |= await measure_sleeping(given, cores, folder)
    return results


def machine() -> dict[str, str]:
    return {"python": platform.python_version(), "system": platform.platform()}


@asynccontextmanager
async def echo_pod(folder: Path) -> AsyncIterator[tuple[Process, int]]:
    port = free_port()
    pod = Process("pod", python("benchmarks.pod", port), folder)
    try:
        await pod.listens(port)
        yield pod, port
    finally:
        pod.stop()


async def measure_chat(given: argparse.Namespace, cores: Cores, folder: Path) -> dict[str, Any]:
    results: dict[str, Any] = {}
    async with (
        echo_pod(folder) as (pod, port),
        peers.start(cores, folder, pod, port, chat.BODY) as others,
        front_door(cores, folder / "chat", port, redis_with_front=given.redis_with_front) as front,
    ):
        sessions = await front.create(chat.SESSIONS)
        await chat.wake(front, sessions)
        everybody = [*others, await chat.our_peer(front, sessions)]
        if "chat" in given.only:
            runs = await chat.throughput(everybody, given.runs, given.seconds)
            results["chat"] = report.throughput(runs)
        if "latency" in given.only:
            results["latency"] = report.latency(await chat.latency(everybody, given.runs, given.seconds / 3))
    return results


async def measure_sleeping(given: argparse.Namespace, cores: Cores, folder: Path) -> dict[str, Any]:
    results: dict[str, Any] = {}
    async with (
        echo_pod(folder) as (_, port),
        front_door(cores, folder / "sleeping", port) as front,
    ):
        footprints = await sleeping.memory(front)
        if "memory" in given.only:
            results["memory"] = report.memory(footprints)
        if "list" in given.only:
            results["list"] = await sleeping.first_page(front, given.seconds)
    return results


def main() -> int:
    given = arguments()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    folder = Path(tempfile.mkdtemp(prefix="bench-", dir=given.folder))
    try:
        results = uvloop.run(measure(given, folder))
    except CannotStart as error:
        print(error, file=sys.stderr)
        return 1
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    print(json.dumps(results, indent=2) if given.json else report.text(results))
    return 0


if __name__ == "__main__":
    sys.exit(main())
