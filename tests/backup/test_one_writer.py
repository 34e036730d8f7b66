"""Two front doors as processes with one bucket: one writes, and its successor has everything that was acknowledged."""

from __future__ import annotations

import base64
import json
import os
import signal
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
import requests

from tests.backup.machines import SHIPPING, SHORT, Machine, Make, Writers
from tests.cli.program import until
from tests.servers.gcs import GcsServer
from tests.servers.tools import litestream
from tests.waiting import freeze

pytestmark = pytest.mark.timeout(120)


@pytest.fixture
def make(request: pytest.FixtureRequest, tmp_path: Path, redis_url: str) -> Iterator[Make]:
    """A function that makes a machine that is not started yet, with the bucket in a folder by default.

    In tests of faults leases end soon.
    """
    machines: list[Machine] = []
    ends = {"WRITER_LEASE": str(SHORT)} if request.node.get_closest_marker("faults") else {}

    def one(name: str, bucket: str = f"file://{tmp_path}/bucket", **env: str) -> Machine:
        url = f"{redis_url.rpartition('/')[0]}/{len(machines)}"
        machines.append(Machine(tmp_path / name, bucket, url, **ends, **env))
        return machines[-1]

    yield one
    for machine in machines:
        machine.stop()


MODES = ["backups in a folder", pytest.param("backups in a bucket", marks=pytest.mark.faults), "shipping to a bucket"]


@pytest.fixture(params=MODES)
def mode(request: pytest.FixtureRequest, tmp_path: Path) -> dict[str, str]:
    """The bucket, and how the data gets there."""
    if request.param == "backups in a folder":
        return {"bucket": f"file://{tmp_path}/bucket"}
    server = request.getfixturevalue("gcs")
    where = {"bucket": f"gs://{server.bucket()}", "STORAGE_EMULATOR_HOST": server.host}
    return where if "backups" in request.param else {**where, **shipping()}


def shipping() -> dict[str, str]:
    return {"BACKUP_MODE": "continuous", "BACKUP_SHIP_INTERVAL": str(SHIPPING), "LITESTREAM": str(litestream())}


def test_the_next_instance_waits_and_then_has_everything_that_was_acknowledged(
    make: Make, mode: dict[str, str]
) -> None:
    one, two = make("one", **mode).start().until_ready(), make("two", **mode).start()
    assert two.health()["session_storage_writer"] == "waiting"
    assert requests.get(f"{two.url}/livez", timeout=10).ok
    assert requests.get(f"{two.url}/readyz", timeout=10).status_code == 503
    reading = requests.get(f"{two.url}/sessions", timeout=10)
    assert (reading.status_code, reading.json()["title"]) == (503, "Another instance writes")
    with Writers([one, two]) as writers:
        writers.until_written(one, 30)
        one.process.signal(signal.SIGTERM)
        writers.until_written(two, 30)
        assert one.process.ended() == 0
    assert two.ready
    assert writers.by(one)[-1] < writers.by(two)[0], "the next instance writes only after the first has left"
    assert writers.acknowledged.keys() <= two.sessions()
    rejected = next(each for each in writers.rejections if each.url.startswith(two.url))
    assert rejected.status_code == 503
    assert int(rejected.headers["Retry-After"]) >= 1
    assert rejected.json()["title"] == "Another instance writes"
    logged = [each for each in one.events if each.startswith("writer.")]
    assert logged == ["writer.waiting", "writer.acquired", "writer.released", "writer.left"]


def test_an_instance_without_the_key_of_the_newest_backup_does_not_start(make: Make) -> None:
    key = base64.b64encode(os.urandom(32)).decode()
    one = make("one", BACKUP_ENCRYPTION_KEYS=key).start().until_ready()
    one.write(1)
    one.stop()
    two = make("two").start()
    assert two.process.ended() == 1
    assert "not among BACKUP_ENCRYPTION_KEYS" in two.process.err.splitlines()[-1]
    assert "writer.released" in [json.loads(line)["event"] for line in two.process.err.splitlines()[:-1]]


@pytest.mark.faults
def test_shipped_changes_survive_a_machine_that_vanished(make: Make, gcs: GcsServer) -> None:
    mode = {"bucket": f"gs://{gcs.bucket()}", "STORAGE_EMULATOR_HOST": gcs.host, **shipping()}
    one, two = make("one", **mode).start().until_ready(), make("two", **mode).start()
    written = one.write(50)
    one.until_shipped()
    one.vanish()
    two.until_ready()
    assert written <= two.sessions()
    assert "shipping.restored" in two.events


@pytest.mark.faults
def test_a_writer_that_yields_leaves_when_another_instance_asks(make: Make) -> None:
    one, two = make("one", WRITER_YIELDS="true").start().until_ready(), make("two").start()
    with Writers([one, two]) as writers:
        writers.until_written(two, 30)
        assert one.process.ended() == 0
    assert writers.by(one)[-1] < writers.by(two)[0]
    assert writers.acknowledged.keys() <= two.sessions()
    assert "writer.asked" in one.events


@pytest.mark.faults
def test_a_machine_that_comes_back_with_its_disk_has_lost_nothing(make: Make) -> None:
    one = make("one").start().until_ready()
    written = one.write(20)
    one.process.signal(signal.SIGKILL)
    one.process.ended()
    one.start().until_ready()
    assert "writer.continues" in one.events
    assert written == one.sessions()


@pytest.mark.faults
def test_an_instance_that_was_stopped_and_replaced_writes_nothing_and_ends(make: Make, mode: dict[str, str]) -> None:
    one, two = make("one", **mode).start().until_ready(), make("two", **mode).start()
    first = one.write(10)
    if "BACKUP_MODE" in mode:
        one.until_shipped()
    one.process.signal(signal.SIGSTOP)
    two.until_ready()
    second = two.write(10)
    one.process.signal(signal.SIGCONT)
    with suppress(requests.ConnectionError):  # it may have ended already
        assert one.create().status_code == 503
    assert one.process.ended() == 1
    assert "writer.lost" in one.events
    third = two.write(10)
    two.process.stop()

    one.start().until_ready()
    assert second | third <= one.sessions(), "what the other one wrote is not overwritten"
    if "BACKUP_MODE" in mode:
        assert first <= one.sessions()
    assert list(one.folder.rglob("*.before-*")), "what only this one had is kept aside"


@pytest.mark.faults
def test_writing_ends_while_the_bucket_is_away_and_comes_back(make: Make) -> None:
    with GcsServer() as server:
        one = make("one", "gs://away", STORAGE_EMULATOR_HOST=server.host).start().until_ready()
        [session] = one.write(1)
        freeze(server.pid)
        until(lambda: one.health()["session_storage_writer"] == "lapsed", "lapsed")
        rejected = one.create()
        assert rejected.status_code == 503
        assert "cannot be reached" in rejected.json()["detail"]
        assert requests.get(f"{one.url}/session/{session}", timeout=10).ok
        assert not one.ready
        os.kill(server.pid, signal.SIGCONT)
        one.until_ready()
        assert one.write(1)
        one.stop()
    assert one.events.count("writer.bucket_away") == 1
    assert "writer.lost" not in one.events
