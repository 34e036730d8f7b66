"""``python -m benchmarks.one_writer``: the cost of shipping, the loss with a machine, the time of a handover.

Needs litestream (hack/test-tools builds it). The bucket is a folder unless ``--bucket`` names another.
"""

from __future__ import annotations

import argparse
import asyncio
import shutil
import signal
import statistics
import tempfile
import time
import uuid
from pathlib import Path

import requests

from session_manager.aio.ids import new_id
from session_manager.backup.litestream import Line, Litestream
from session_manager.backup.shipping import Shipper
from session_manager.domain.access import EVERYTHING
from session_manager.domain.message import NewMessage
from session_manager.domain.times import Micros
from session_manager.storage.places import open_place
from session_manager.store.protocol import NewSession
from session_manager.store.sqlite.adapter import SqliteStore
from tests.backup.machines import Machine, Writers
from tests.servers.redis import RedisServer
from tests.servers.tools import litestream

CALLERS = 32
RUNS = 5
INTERVAL = 3.0  # seconds between shipments, the default


async def appends(store: SqliteStore, seconds: float) -> tuple[float, float]:
    """Return messages per second, and the 99th percentile of their time in milliseconds."""
    session = str(uuid.uuid4())
    await store.create_session(NewSession(session, "ada", "default", Micros(10**12)))
    end, took = time.monotonic() + seconds, []

    async def caller() -> None:
        while (began := time.monotonic()) < end:
            await store.accept(NewMessage(new_id(), session, "x" * 200, "ada"), EVERYTHING)
            took.append(time.monotonic() - began)

    await asyncio.gather(*(caller() for _ in range(CALLERS)))
    return len(took) / seconds, 1000 * statistics.quantiles(took, n=100)[98]


async def cost(folder: Path, tool: Path, seconds: float) -> None:
    """Measure with shipping off and on in turn, on one database."""
    path = folder / "cost" / "sessions.db"
    place = open_place(f"file://{folder}/bucket")
    store = SqliteStore(path)
    await store.start()
    off, on = [], []
    await appends(store, seconds)
    for run in range(RUNS):
        off.append(await appends(store, seconds))
        shipper = Shipper(Litestream(tool), path, Line(place, f"session_shipping/{run:012d}-00000000"), INTERVAL)
        await shipper.start()
        while not await shipper.flush(5):
            await asyncio.sleep(0.1)
        on.append(await appends(store, seconds))
        await shipper.stop()
    await store.close()
    rates = [statistics.median(rate for rate, _ in side) for side in (off, on)]
    late = [statistics.median(p99 for _, p99 in side) for side in (off, on)]
    print(f"append: {rates[0]:.0f}/s without shipping, {rates[1]:.0f}/s with it: {rates[1] / rates[0]:.2f} of it")
    print(f"append p99: {late[0]:.1f} ms without, {late[1]:.1f} ms with it")


def machines(folder: Path, bucket: str, redis: str, **env: str) -> list[Machine]:
    given = {"WRITER_LEASE": "30", **env}
    one, two = (Machine(folder / name, bucket, f"{redis}/{number}", **given) for number, name in enumerate(("1", "2")))
    one.start().until_ready()
    two.start()
    return [one, two]


def vanish(folder: Path, bucket: str, redis: str, env: dict[str, str]) -> None:
    """Kill everything with -9 and remove the disk, under load."""
    one, two = machines(folder, bucket, redis, **env)
    try:
        with Writers([one]) as writers:
            time.sleep(20)
            one.vanish()
            gone = time.monotonic()
        while not answers(two):
            time.sleep(0.05)
        back = time.monotonic()
        lost = writers.acknowledged.keys() - two.sessions()
        first = min((writers.acknowledged[each][1] for each in lost), default=gone)
        print(f"vanished: {len(lost)} of {len(writers.acknowledged)} lost, the last {gone - first:.1f} s")
        print(f"vanished: {back - gone:.1f} s until the next one answered (the lease is 30 s)")
    finally:
        two.stop()


def answers(machine: Machine) -> bool:
    try:
        return machine.ready
    except requests.RequestException:
        return False


def handover(folder: Path, bucket: str, redis: str, **env: str) -> None:
    """Send SIGTERM under load, and wait until the next writer acknowledges."""
    one, two = machines(folder, bucket, redis, **env)
    try:
        with Writers([one, two]) as writers:
            writers.until_written(one, 300)
            asked = time.monotonic()
            one.process.signal(signal.SIGTERM)
            writers.until_written(two, 10)
        gap = writers.by(two)[0] - writers.by(one)[-1]
        mode = env.get("BACKUP_MODE", "interval")
        lost = writers.acknowledged.keys() - two.sessions()
        print(f"handover ({mode}): {writers.by(two)[0] - asked:.1f} s, {gap:.1f} s without a writer; {len(lost)} lost")
    finally:
        two.stop()


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.one_writer", description=__doc__)
    parser.add_argument("--seconds", type=float, default=5.0, help="of each run (5)")
    parser.add_argument("--only", choices=("cost", "handover", "vanish"), help="one of the three")
    parser.add_argument("--bucket", help="gs://…, s3://…; a folder by default")
    given = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="one-writer-"))
    try:
        if given.only in (None, "cost"):
            asyncio.run(cost(folder, litestream(), given.seconds))
        if given.only != "cost":
            with RedisServer() as server:
                processes(folder, given.bucket or f"file://{folder}", server, given.only)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def processes(folder: Path, bucket: str, server: RedisServer, only: str | None) -> None:
    redis = server.url.rpartition("/")[0]
    shipping = {"BACKUP_MODE": "continuous", "BACKUP_SHIP_INTERVAL": str(INTERVAL), "LITESTREAM": str(litestream())}
    if only in (None, "handover"):
        for name, env in (("backups", {}), ("shipping", shipping)):
            server.flush()
            handover(_made(folder / name), f"{bucket}/{name}-stored", redis, **env)
    if only in (None, "vanish"):
        server.flush()
        vanish(_made(folder / "vanish"), f"{bucket}/vanish-stored", redis, shipping)


def _made(folder: Path) -> Path:
    folder.mkdir()
    return folder


if __name__ == "__main__":
    main()
