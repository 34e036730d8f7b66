"""One contract for conditional objects in every kind of place."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from session_manager.domain.errors import StorageError, StorageUnavailable
from session_manager.storage.conditional import ConditionalObject, Contended
from session_manager.storage.places import Place, open_place
from session_manager.wiring.backups import open_conditional
from tests.servers.gcs import GcsServer
from tests.waiting import freeze

OpenOne = Callable[[], ConditionalObject]


@pytest.fixture
def place(any_place: Place) -> Place:
    return any_place


@pytest.fixture
def open_one(place: Place, request: pytest.FixtureRequest) -> Iterator[OpenOne]:
    place.ensure()
    endpoint = request.getfixturevalue("gcs").host if place.url.startswith("gs://") else None
    opened: list[ConditionalObject] = []

    def one() -> ConditionalObject:
        opened.append(open_conditional(place, "session_writer/lease", 10.0, endpoint))
        return opened[-1]

    yield one
    for each in opened:
        each.close()


def test_an_object_does_not_exist_until_it_is_created(open_one: OpenOne) -> None:
    store = open_one()
    assert store.read() is None
    version = store.replace(b"1", None)
    found = open_one().read()
    assert found is not None
    assert (found.content, found.version) == (b"1", version)


def test_an_object_is_created_once(open_one: OpenOne) -> None:
    open_one().replace(b"1", None)
    with pytest.raises(Contended):
        open_one().replace(b"2", None)


def test_only_the_expected_version_is_replaced(open_one: OpenOne) -> None:
    mine, theirs = open_one(), open_one()
    first = mine.replace(b"1", None)
    second = theirs.replace(b"2", first)
    assert second != first
    with pytest.raises(Contended):
        mine.replace(b"3", first)
    assert mine.replace(b"4", second) not in (first, second)
    found = theirs.read()
    assert found is not None
    assert found.content == b"4"


def test_one_of_many_simultaneous_replacements_wins(open_one: OpenOne, place: Place) -> None:
    if place.url.startswith("s3://"):
        pytest.skip("S3 decides it at once, its imitation does not")
    version = open_one().replace(b"0", None)
    objects = [open_one() for _ in range(4)]

    def attempt(number: int) -> bool:
        try:
            objects[number].replace(b"%d" % (number + 1), version)
        except Contended:
            return False
        return True

    with ThreadPoolExecutor(4) as threads:
        won = list(threads.map(attempt, range(4)))
    assert sum(won) == 1
    found = open_one().read()
    assert found is not None
    assert found.content == b"%d" % (won.index(True) + 1)


def test_an_old_version_never_comes_back(open_one: OpenOne) -> None:
    """A process that was stopped for many renewals cannot replace the newest version when it continues."""
    store = open_one()
    old = version = store.replace(b"0", None)
    for number in range(5):
        version = store.replace(b"%d" % (number + 1), version)
    with pytest.raises(Contended):
        open_one().replace(b"late", old)
    found = store.read()
    assert found is not None
    assert (found.content, found.version) == (b"5", version)


def test_a_folder_keeps_one_file_per_object(tmp_path: Path) -> None:
    store = open_conditional(open_place(f"file://{tmp_path}"), "session_writer/lease", 1.0)
    version = store.replace(b"0", None)
    for number in range(5):
        version = store.replace(b"%d" % number, version)
    assert [path.name for path in (tmp_path / "session_writer").iterdir()] == ["lease.6"]


def test_a_silent_server_is_reported_in_time() -> None:
    with GcsServer() as server:
        place = open_place("gs://silent", project="project", endpoint=server.host)
        place.ensure()
        store = open_conditional(place, "lease", 0.2, server.host)
        store.replace(b"1", None)
        freeze(server.pid)
        with pytest.raises(StorageUnavailable):
            store.read()
        with pytest.raises(StorageUnavailable):
            store.replace(b"2", "1")
        os.kill(server.pid, signal.SIGCONT)
        store.close()


def test_a_folder_that_cannot_be_written_is_reported(tmp_path: Path) -> None:
    (tmp_path / "session_writer").touch()
    store = open_conditional(open_place(f"file://{tmp_path}"), "session_writer/lease", 1.0)
    with pytest.raises(StorageError):
        store.replace(b"1", None)
