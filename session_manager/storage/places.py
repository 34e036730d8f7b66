"""Where backups lie: a bucket of Google Cloud Storage or S3, or a folder, through fsspec.

Everything here blocks, needs no event loop, and may be called inside one and from any thread.  Every failure is a
``StorageError``: what its detail says is fit for anybody, and what the service answered stands in ``reason``.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import fsspec
from fsspec.asyn import AsyncFileSystem
from fsspec.implementations.local import LocalFileSystem

from session_manager.domain.errors import StartupFailure
from session_manager.storage.files import sync_folder, write_file
from session_manager.storage.refusals import translated

BLOCK = 8 * 1024 * 1024  # bytes of one request; each upload keeps one or two of them in memory
TIMEOUT = 30.0
SCHEMES = ("gs", "s3", "file")
_EXTRAS = {"gs": "backup", "s3": "s3"}


@dataclass(frozen=True, slots=True)
class Entry:
    """One object. ``name`` is below the place; ``modified`` in seconds since 1970, None where nobody tells."""

    name: str
    size: int
    modified: float | None


class Place:
    """``fs`` is a file system of fsspec, ``root`` the bucket or folder in it, ``url`` what a person calls it."""

    def __init__(self, fs: fsspec.AbstractFileSystem, root: str, url: str) -> None:
        self.fs = fs
        self.root = root.rstrip("/")
        self.url = url.rstrip("/")

    @property
    def is_local(self) -> bool:
        return isinstance(self.fs, LocalFileSystem)

    def path(self, name: str) -> str:
        """How ``fs`` calls the object ``name``."""
        return f"{self.root}/{name}"

    def address(self, name: str) -> str:
        return f"{self.url}/{name}"

    def ensure(self) -> None:
        """Make the bucket if it is missing. Needs no right but to list, unless it has to be made."""
        with self.errors():
            try:
                self._ls(self.root)
            except FileNotFoundError:
                self._make()

    def entries(self, folder: str) -> list[Entry]:
        """Every object right below ``folder``; none where the folder or the bucket is missing."""
        with self.errors():
            try:
                found = self._ls(self.path(folder))
            except FileNotFoundError:
                return []
        names = ((each["name"].rpartition("/")[2], each) for each in found if each["type"] == "file")
        return [Entry(f"{folder}/{name}", int(each["size"] or 0), _modified(each)) for name, each in names]

    def size(self, name: str) -> int:
        """In bytes. StorageMissing where there is no such object."""
        with self.errors():
            return int(self.fs.info(self.path(name))["size"])

    def read(self, name: str, start: int = 0) -> Iterator[bytes]:
        """The object from ``start`` on, a block at a time."""
        size = self.size(name)
        while start < size:
            with self.errors():
                block = self.fs.cat_file(self.path(name), start=start, end=min(start + BLOCK, size))
            if not block:
                return
            yield block
            start += len(block)

    def write(self, name: str, blocks: Iterable[bytes]) -> int:
        """Store a new object and return its size. Until it is whole there is none of that name, killed or not."""
        if self.is_local:
            with self.errors():
                return _write_file(Path(self.path(name)), blocks)
        return self._upload(name, blocks)

    def delete(self, name: str) -> None:
        """May be gone already."""
        with self.errors(), suppress(FileNotFoundError):
            self.fs.rm_file(self.path(name))

    @contextmanager
    def errors(self) -> Iterator[None]:
        """Failures of ``fs`` become ``StorageError``."""
        try:
            yield
        except Exception as error:
            ours = translated(error, self.url)
            if ours is error:
                raise
            raise ours from error

    def _ls(self, path: str) -> list[dict[str, Any]]:
        """Not through gcsfs' own: of an empty prefix it would ask for the object of that name, and for the bucket."""
        if self.url.startswith("gs://"):
            return _ls_bucket(self.fs, path)
        self.fs.invalidate_cache(path)
        return list(self.fs.ls(path, detail=True))

    def _make(self) -> None:
        if self.is_local:
            Path(self.root).mkdir(mode=0o700, parents=True, exist_ok=True)
            return
        options = {"iam_configuration": _PRIVATE} if self.url.startswith("gs://") else {}
        with suppress(FileExistsError):  # another one was quicker
            self.fs.mkdir(self.root.partition("/")[0], **options)

    def _upload(self, name: str, blocks: Iterable[bytes]) -> int:
        """Blocks of others may fail as well; their errors are not the place's."""
        with self.errors():
            file = self.fs.open(self.path(name), "wb", block_size=BLOCK)
        try:
            for block in blocks:
                with self.errors():
                    file.write(block)
            with self.errors():
                file.close()
        except BaseException:
            _give_up(file)
            raise
        return int(file.tell())


_PRIVATE = {"uniformBucketLevelAccess": {"enabled": True}, "publicAccessPrevention": "enforced"}


def open_place(
    name: str, *, project: str | None = None, endpoint: str | None = None, timeout: float = TIMEOUT
) -> Place:
    """The bucket or folder called ``name``: the bare name of a bucket means gs://, a URL is taken as it is.

    ``project`` is where a bucket would be made, ``endpoint`` an emulator of Google Cloud Storage
    (STORAGE_EMULATOR_HOST), ``timeout`` the seconds until a silent service counts as away. Nothing is asked yet.
    StartupFailure: nobody could open that.
    """
    url = name if "://" in name else f"gs://{name}"
    parts = urlsplit(url)
    if parts.scheme not in SCHEMES or parts.query or parts.fragment or "@" in parts.netloc:
        raise StartupFailure("A backup place is a bucket's name, gs://bucket, s3://bucket or file:///absolute/folder")
    if parts.scheme == "file":
        if parts.netloc or not parts.path.strip("/"):
            raise StartupFailure("A backup folder is written file:///absolute/folder")
        return Place(LocalFileSystem(), parts.path, url)
    if not parts.netloc:
        raise StartupFailure(f"{url} names no bucket")
    try:
        fs = _google(project, endpoint, timeout) if parts.scheme == "gs" else _s3(timeout)
    except ImportError:
        raise StartupFailure(
            f"A bucket of {parts.scheme}:// needs more packages: pip install 'session-manager[{_EXTRAS[parts.scheme]}]'"
        ) from None
    return Place(fs, parts.netloc + parts.path, url)


def _google(project: str | None, endpoint: str | None, timeout: float) -> AsyncFileSystem:
    # Its support of other kinds of buckets asks over gRPC first, which no emulator answers: a minute each time. The
    # variable saves to load it; whoever loaded the package before us finds the plain kind in `core`.
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
    """Region, endpoint and credentials come from where every program of AWS takes them."""
    import s3fs  # noqa: PLC0415  an optional dependency

    return s3fs.S3FileSystem(
        config_kwargs={"connect_timeout": timeout, "read_timeout": timeout, "retries": {"max_attempts": 3}},
        use_listings_cache=False,
    )


def _ls_bucket(fs: Any, path: str) -> list[dict[str, Any]]:
    bucket, _, folder = path.partition("/")
    prefix = f"{folder}/" if folder else ""
    found: list[dict[str, Any]] = []
    page: dict[str, Any] = {"nextPageToken": None}
    while "nextPageToken" in page:
        page = fs.call(
            "GET",
            "b/{}/o",
            bucket,
            prefix=prefix,
            delimiter="/",
            maxResults=1000,
            pageToken=page["nextPageToken"],
            json_out=True,
        )
        found += [{**item, "type": "file"} for item in page.get("items", ())]
    return found


def _modified(entry: dict[str, Any]) -> float | None:
    """Under the name that each file system has for it."""
    value = entry.get("mtime") or entry.get("updated") or entry.get("LastModified")
    if isinstance(value, str):
        value = datetime.fromisoformat(value)
    return value.timestamp() if isinstance(value, datetime) else value


def _write_file(path: Path, blocks: Iterable[bytes]) -> int:
    """Under another name first, on disk before it gets its own."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.{secrets.token_hex(4)}.part")
    try:
        size = write_file(part, blocks)
        part.replace(path)
    except BaseException:
        part.unlink(missing_ok=True)
        raise
    sync_folder(path.parent)
    return size


def _give_up(file: Any) -> None:
    """To close it would store what there is as if it were all."""
    with suppress(Exception):
        file.discard()
    file.closed = True
