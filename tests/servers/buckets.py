"""Fixtures for places: a folder, and buckets on servers that a whole run shares."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from session_manager.storage.places import Place, open_place
from tests.servers import shared
from tests.servers.gcs import GcsServer


@pytest.fixture(scope="session")
def gcs() -> Iterator[GcsServer]:
    """A server of Google Cloud Storage for the whole run; each test uses a bucket of its own."""
    with GcsServer() as server, shared(server.pid):
        yield server


@pytest.fixture(scope="session")
def s3_server() -> Iterator[str]:
    """A server for the whole run, since fsspec keeps its clients and with them the address."""
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
    """Return a place that does not exist yet, of the kind ``file``, ``gs`` or ``s3``."""
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
    """A place of every kind. S3 is skipped unless its libraries are installed, which conflict with others."""
    return place_of(request.param, request)


@pytest.fixture
def folder(tmp_path: Path) -> Place:
    return open_place(f"file://{tmp_path}/place")
