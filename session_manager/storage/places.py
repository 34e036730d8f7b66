"""A place for objects: a bucket of Google Cloud Storage or S3, or a folder, through fsspec.

Everything here blocks, needs no event loop, and may be called inside one and from any thread. Every failure is a
``StorageError``. Its detail may be shown to every caller; ``reason`` holds the answer of the service.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import fsspec
from fsspec.asyn import AsyncFileSystem, sync
from fsspec.implementations.local import LocalFileSystem

from session_manager.domain.errors import StartupFailure, StorageError, StorageMissing
from session_manager.domain.extras import needs_extra
from session_manager.storage.errors import translate
from session_manager.storage.files import replace_file

BLOCK = 8 * 1024 * 1024  # bytes per request; each upload keeps one or two blocks in memory
TIMEOUT = 30.0
EXTRAS = {"gs": "backup", "s3": "s3"}  # that a scheme needs


@dataclass(frozen=True, slots=True)
class Entry:
    """One object. ``name`` is relative to the place; ``modified`` in seconds since 1970, or None if unknown."""

    name: str
    size: int
    modified: float | None


class Place:
    """``fs`` is a file system of fsspec, ``root`` the bucket or folder in it, ``url`` its name for people."""

    def __init__(self, fs: fsspec.AbstractFileSystem, root: str, url: str) -> None:
        self.fs = fs
        self.root = root.rstrip("/")
        self.url = url.rstrip("/")

    @property
    def is_local(self) -> bool:
        return isinstance(self.fs, LocalFileSystem)

    def path(self, name: str) -> str:
        """Return the path of the object ``name`` in ``fs``."""
        return f"{self.root}/{name}"

    def address(self, name: str) -> str:
        return f"{self.url}/{name}"

    def ensure(self) -> None:
        """Create the bucket or folder if it does not exist. Needs only the right to list if it exists."""
        with self.errors():
            try:
                self._ls(self.root)
            except FileNotFoundError:
                self._make()

    def entries(self, folder: str) -> list[Entry]:
        """Return every object directly in ``folder``, or an empty list if the folder or the bucket does not exist."""
        with self.errors():
            try:
                found = self._ls(self.path(folder))
            except FileNotFoundError:
                return []
        names = ((each["name"].rpartition("/")[2], each) for each in found if each["type"] == "file")
        return [Entry(f"{folder}/{name}", int(each["size"] or 0), _modified(each)) for name, each in names]

    def size(self, name: str) -> int:
        """Return the size in bytes. Raises StorageMissing if the object does not exist."""
        with self.errors():
            return int(self.fs.info(self.path(name))["size"])

    def read(self, name: str, start: int = 0) -> Iterator[bytes]:
        """Yield the object from ``start`` on, a block at a time, all of the same version.

        Raises StorageError if the object is replaced or removed after the first block.
        """
        return self._read_file(name, start) if self.is_local else self._download(name, start)

    def _read_file(self, name: str, start: int) -> Iterator[bytes]:
        """One open file is one version, since ``write`` puts a new file in its place."""
        with self.errors():
            file = Path(self.path(name)).open("rb")  # noqa: SIM115  closed below
        with file:
            file.seek(start)
            while True:
                with self.errors():
                    block = file.read(BLOCK)
                if not block:
                    return
                yield block

    def _download(self, name: str, start: int) -> Iterator[bytes]:
        """Ask for each block of the version that was found at first."""
        first, (size, version) = start, self._version(name)
        while start < size:
            try:
                with self.errors():
                    block = self._range(self.path(name), version, start, min(start + BLOCK, size))
            except StorageMissing as error:
                if start > first:
                    detail = "The object was replaced or removed while it was read"
                    raise StorageError(detail, error.reason) from error
                size, version = self._version(name)
                continue
            if not block:
                return
            yield block
            start += len(block)

    def _version(self, name: str) -> tuple[int, str]:
        """Return the size and the version of the object: its generation on GCS, its ETag on S3."""
        with self.errors():
            info = self.fs.info(self.path(name))
            return int(info["size"]), str(info["generation" if self.url.startswith("gs://") else "ETag"])

    def _range(self, path: str, version: str, start: int, end: int) -> bytes:
        """Return bytes of this version. Raises FileNotFoundError if it does not exist any more."""
        wanted = f"bytes={start}-{end - 1}"
        if self.url.startswith("gs://"):
            url = f"{self.fs.url(path)}&generation={version}"
            return bytes(self.fs.call("GET", url, headers={"Range": wanted})[1])
        return bytes(sync(self.fs.loop, _get_s3, self.fs, path, version, wanted))

    def write(self, name: str, blocks: Iterable[bytes]) -> int:
        """Store an object and return its size. It appears under its name once it is complete, or not at all."""
        if self.is_local:
            with self.errors():
                return replace_file(Path(self.path(name)), blocks)
        with self.errors():
            file = self.fs.open(self.path(name), "wb", block_size=BLOCK)
        try:
            for block in blocks:  # their errors are not errors of the place, so they are passed on as they are
                with self.errors():
                    file.write(block)
            with self.errors():
                file.close()
        except BaseException:
            # Closing the file would store the part that was written as the whole object.
            with suppress(Exception):
                file.discard()
            file.closed = True
            raise
        return int(file.tell())

    def delete(self, name: str) -> None:
        """Remove the object, if it still exists."""
        with self.errors(), suppress(FileNotFoundError):
            self.fs.rm_file(self.path(name))

    @contextmanager
    def errors(self) -> Iterator[None]:
        """Turn failures of ``fs`` into StorageError."""
        try:
            yield
        except Exception as error:
            ours = translate(error, self.url)
            if ours is error:
                raise
            raise ours from error

    def _ls(self, path: str) -> list[dict[str, Any]]:
        """List a folder. If gcsfs found nothing, its own ``ls`` would ask for an object of that name and the bucket."""
        if not self.url.startswith("gs://"):
            self.fs.invalidate_cache(path)
            return list(self.fs.ls(path, detail=True))
        bucket, _, folder = path.partition("/")
        found: list[dict[str, Any]] = []
        page: dict[str, Any] = {"nextPageToken": None}
        while "nextPageToken" in page:
            query = {"prefix": f"{folder}/" if folder else "", "pageToken": page["nextPageToken"]}
            page = self.fs.call("GET", "b/{}/o", bucket, delimiter="/", maxResults=1000, json_out=True, **query)
            found += [{**item, "type": "file"} for item in page.get("items", ())]
        return found

    def _make(self) -> None:
        if self.is_local:
            Path(self.root).mkdir(mode=0o700, parents=True, exist_ok=True)
            return
        private = {"uniformBucketLevelAccess": {"enabled": True}, "publicAccessPrevention": "enforced"}
        options = {"iam_configuration": private} if self.url.startswith("gs://") else {}
        with suppress(FileExistsError):  # another process was quicker
            self.fs.mkdir(self.root.partition("/")[0], **options)


def open_place(
    name: str, *, project: str | None = None, endpoint: str | None = None, timeout: float = TIMEOUT
) -> Place:
    """Return the bucket or folder ``name``: a URL, or the name of a bucket on gs://. Sends no request yet.

    ``project`` is where a bucket would be created, ``endpoint`` an emulator of Google Cloud Storage
    (STORAGE_EMULATOR_HOST), ``timeout`` the seconds until a silent service is unavailable. Raises StartupFailure if the
    name is invalid or a package is missing.
    """
    url = name if "://" in name else f"gs://{name}"
    parts = urlsplit(url)
    if parts.scheme not in ("file", *EXTRAS) or parts.query or parts.fragment or "@" in parts.netloc:
        raise StartupFailure(
            "Invalid place for backups: expected a bucket's name, gs://bucket, s3://bucket or file:///absolute/folder"
        )
    if parts.scheme == "file":
        if parts.netloc or not parts.path.strip("/"):
            raise StartupFailure("Invalid folder for backups: expected file:///absolute/folder")
        return Place(LocalFileSystem(), parts.path, url)
    if not parts.netloc:
        raise StartupFailure(f"{url} lacks the name of a bucket")
    try:
        fs = _google(project, endpoint, timeout) if parts.scheme == "gs" else _s3(timeout)
    except ImportError:
        raise StartupFailure(needs_extra(f"A bucket of {parts.scheme}://", EXTRAS[parts.scheme])) from None
    return Place(fs, parts.netloc + parts.path, url)


def _google(project: str | None, endpoint: str | None, timeout: float) -> AsyncFileSystem:
    # Its support of other kinds of buckets first asks over gRPC, which no emulator answers: a minute each time. The
    # variable keeps it from being loaded, and `core` is the plain kind even if the package was loaded before.
    os.environ.setdefault("GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT", "false")
    import aiohttp  # noqa: PLC0415
    from gcsfs.core import GCSFileSystem  # noqa: PLC0415  a second, and an optional dependency

    if endpoint and "://" not in endpoint:
        endpoint = f"http://{endpoint}"
    return GCSFileSystem(
        project=project or "",
        token="anon" if endpoint else None,
        endpoint_url=endpoint,
        requests_timeout=aiohttp.ClientTimeout(total=4 * timeout, sock_connect=timeout, sock_read=timeout),
        use_listings_cache=False,
    )


def _s3(timeout: float) -> AsyncFileSystem:
    """Region, endpoint and credentials come from where AWS programs find them."""
    import s3fs  # noqa: PLC0415  an optional dependency

    return s3fs.S3FileSystem(
        config_kwargs={"connect_timeout": timeout, "read_timeout": timeout, "retries": {"max_attempts": 3}},
        use_listings_cache=False,
    )


def _modified(entry: dict[str, Any]) -> float | None:
    """Each file system has another name for it."""
    value = entry.get("mtime") or entry.get("updated") or entry.get("LastModified")
    if isinstance(value, str):
        value = datetime.fromisoformat(value)
    return value.timestamp() if isinstance(value, datetime) else value


async def _get_s3(fs: Any, path: str, version: str, wanted: str) -> bytes:
    from s3fs.core import _error_wrapper  # noqa: PLC0415  an optional dependency

    bucket, _, key = path.partition("/")

    async def get() -> bytes:
        answer = await fs._call_s3("get_object", Bucket=bucket, Key=key, Range=wanted, IfMatch=version)
        async with answer["Body"] as body:
            return bytes(await body.read())

    try:
        # A connection may also break while the body is read.
        return bytes(await _error_wrapper(get, retries=fs.retries))
    except OSError as error:
        answered = getattr(error.__cause__, "response", {}).get("Error", {})
        if answered.get("Code") in ("PreconditionFailed", "412"):
            raise FileNotFoundError(str(error)) from error
        raise
