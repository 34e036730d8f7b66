"""One contract for every kind of place, and the names by which places are called."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest
from aiohttp import ClientPayloadError

from session_manager.domain.errors import StartupFailure, StorageError, StorageMissing
from session_manager.storage.places import BLOCK, Place, _get_s3, open_place


@pytest.fixture
def place(any_place: Place) -> Place:
    return any_place


def names(place: Place) -> list[str]:
    return sorted(entry.name for entry in place.entries("folder"))


def test_a_missing_place_is_empty_and_can_be_created_twice(place: Place):
    assert place.entries("folder") == []
    place.ensure()
    place.ensure()
    assert place.entries("folder") == []


def test_an_object_is_read_as_it_was_written(place: Place):
    place.ensure()
    data = bytes(range(256)) * (BLOCK // 256) + b"and more"
    assert place.write("folder/one", (data[at : at + 1_000_000] for at in range(0, len(data), 1_000_000))) == len(data)
    assert place.write("folder/empty", []) == 0
    assert place.write("folder/below/two", [b"two"]) == 3
    assert b"".join(place.read("folder/one")) == data
    assert b"".join(place.read("folder/one", BLOCK - 3)) == data[BLOCK - 3 :]
    assert b"".join(place.read("folder/empty")) == b""
    assert place.size("folder/one") == len(data)
    assert names(place) == ["folder/empty", "folder/one"]
    assert all(entry.modified is not None for entry in place.entries("folder"))


def test_an_object_can_be_deleted_twice(place: Place):
    place.ensure()
    place.write("folder/one", [b"one"])
    place.delete("folder/one")
    place.delete("folder/one")
    assert names(place) == []
    with pytest.raises(StorageMissing):
        place.size("folder/one")
    with pytest.raises(StorageMissing):
        list(place.read("folder/one"))


@pytest.mark.parametrize("blocks", [1, 3])
def test_an_interrupted_upload_stores_nothing(place: Place, blocks: int):
    """``blocks`` of eight megabytes: one that waits to be sent, and some that were sent."""

    def half() -> Iterator[bytes]:
        yield from [b"x" * BLOCK] * blocks
        raise KeyboardInterrupt

    place.ensure()
    with pytest.raises(KeyboardInterrupt):
        place.write("folder/half", half())
    assert names(place) == []


@pytest.mark.parametrize(
    ("name", "url", "root"),
    [
        ("bucket", "gs://bucket", "bucket"),
        ("gs://bucket/below/it/", "gs://bucket/below/it", "bucket/below/it"),
        ("file:///a/folder", "file:///a/folder", "/a/folder"),
    ],
)
def test_the_name_of_a_place_becomes_its_url(name: str, url: str, root: str):
    place = open_place(name, endpoint="127.0.0.1:1")
    assert (place.url, place.root, place.address("x")) == (url, root, f"{url}/x")


@pytest.mark.parametrize(
    "name", ["ftp://host/folder", "file://relative", "file:///", "gs://", "s3://user:secret@bucket", "gs://b?x=1", ""]
)
def test_an_invalid_place_is_rejected_without_its_secret(name: str):
    with pytest.raises(StartupFailure) as raised:
        open_place(name)
    assert "secret" not in raised.value.detail


def _replaced(place: Place, data: bytes) -> bytes:
    """Read an object that is replaced after its first block."""
    place.ensure()
    place.write("folder/one", [data])
    blocks = place.read("folder/one")
    read = next(blocks)
    place.write("folder/one", [b"z" * len(data)])
    return read + b"".join(blocks)


def test_an_object_that_is_replaced_while_it_is_read_is_never_mixed(place: Place):
    data = b"a" * BLOCK + b"b" * BLOCK + b"c"
    if place.is_local:
        assert _replaced(place, data) == data
    else:
        with pytest.raises(StorageError, match="replaced or removed while it was read"):
            _replaced(place, data)


def test_an_object_that_is_replaced_before_its_first_block_is_read_anew(place: Place, monkeypatch: pytest.MonkeyPatch):
    place.ensure()
    place.write("folder/one", [b"old" * BLOCK])
    version = Place._version

    def replaced_after(self: Place, name: str) -> tuple[int, str]:
        found = version(self, name)
        monkeypatch.setattr(Place, "_version", version)
        self.write(name, [b"new"])
        return found

    monkeypatch.setattr(Place, "_version", replaced_after)
    found = b"".join(place.read("folder/one"))
    assert found == (b"old" * BLOCK if place.is_local else b"new")


def test_s3_reads_a_block_again_if_its_connection_breaks():
    """The request is answered, and its body breaks off."""
    pytest.importorskip("s3fs")

    class Body:
        async def __aenter__(self) -> Body:
            return self

        async def __aexit__(self, *error: object) -> None: ...

        async def read(self) -> bytes:
            bodies.append(self)
            if len(bodies) == 1:
                raise ClientPayloadError
            return b"block"

    class FileSystem:
        retries = 3

        async def _call_s3(self, operation: str, **wanted: str) -> dict[str, Body]:
            return {"Body": Body()}

    bodies: list[Body] = []
    assert asyncio.run(_get_s3(FileSystem(), "bucket/key", '"etag"', "bytes=0-4")) == b"block"
    assert len(bodies) == 2
