from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from session_manager.backup.backups import Backups
from session_manager.backup.catalog import Retention
from session_manager.backup.keys import Keys
from session_manager.backup.sqlite import SqliteSource
from session_manager.storage.places import Place, open_place
from tests.backup.databases import fill
from tests.servers import shared
from tests.servers.gcs import GcsServer


@pytest.fixture(scope="session")
def gcs() -> Iterator[GcsServer]:
    """A server of Google Cloud Storage for the whole run; tests take buckets of their own."""
    with GcsServer() as server, shared(server.pid):
        yield server


@pytest.fixture(scope="session")
def s3_server() -> Iterator[str]:
    """One for the whole run: clients of fsspec are kept, and with them the address."""
    moto = pytest.importorskip("moto.server", reason="needs moto")
    pytest.importorskip("s3fs", reason="needs s3fs")
    server = moto.ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture
def s3(s3_server: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", s3_server)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "id")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")


def place_of(kind: str, request: pytest.FixtureRequest) -> Place:
    """One that is not there yet: of ``file``, ``gs`` or ``s3``."""
    if kind == "file":
        return open_place(f"file://{request.getfixturevalue('tmp_path')}/place")
    if kind == "s3":
        request.getfixturevalue("s3")
        return open_place(f"s3://bucket-{uuid.uuid4()}/below")
    server: GcsServer = request.getfixturevalue("gcs")
    return open_place(f"gs://{server.bucket()}/below", project="project", endpoint=server.host)


@pytest.fixture(params=["file", "gs"])
def place(request: pytest.FixtureRequest) -> Place:
    return place_of(request.param, request)


@pytest.fixture(params=["file", "gs", "s3"])
def any_place(request: pytest.FixtureRequest) -> Place:
    """Where S3 is one of them, if what speaks it is installed: it wants other libraries than the rest does."""
    return place_of(request.param, request)


@pytest.fixture
def folder(tmp_path: Path) -> Place:
    return open_place(f"file://{tmp_path}/place")


@pytest.fixture
async def database(tmp_path: Path) -> Path:
    """A database of this program with some sessions and messages, closed."""
    path = tmp_path / "sessions" / "sessions.db"
    await fill(path, sessions=3, messages=5)
    return path


@pytest.fixture
def backups(folder: Place, database: Path) -> Backups:
    return of(database, folder)


@pytest.fixture
def elsewhere(tmp_path: Path) -> Callable[[Backups], Backups]:
    """The same backups, seen from a machine without a database."""
    return lambda backups: of(tmp_path / "elsewhere" / "sessions.db", backups.place)


def of(path: Path, place: Place, keys: str = "", **retention: Any) -> Backups:
    kept = Retention(**{"count": 8, "days": 14.0, **retention})
    return Backups(SqliteSource(path), place, Keys.parse(keys), kept)
