"""File systems for a live database: checked by type, and by trials on real file systems that lack features."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from session_manager.domain.errors import StartupFailure
from session_manager.settings import Settings
from session_manager.store.open import database_path
from session_manager.store.sqlite import file_system
from session_manager.store.sqlite.adapter import SqliteStore

MOUNTS = """\
/dev/vda / ext4 rw,relatime 0 0
proc /proc proc rw 0 0
server:/export /mnt/shared nfs4 rw,vers=4.2 0 0
bucket /mnt/my\\040bucket fuse.gcsfuse rw 0 0
mountpoint-s3 /mnt/s3 fuse rw 0 0
/dev/vdb /mnt/shared/local ext4 rw 0 0
tmpfs /mnt/covered tmpfs rw 0 0
host:/x /mnt/covered nfs rw 0 0
"""
Mount = Callable[..., Path]

needs_fuse = pytest.mark.skipif(
    os.geteuid() != 0 or shutil.which("bindfs") is None or not Path("/dev/fuse").exists(),
    reason="mounts a FUSE file system: needs root, /dev/fuse and bindfs",
)


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("/data/x.db", "ext4"),
        ("/mnt/shared/x.db", "nfs4"),
        ("/mnt/shared/local/x.db", "ext4"),
        ("/mnt/sharedness/x.db", "ext4"),
        ("/mnt/covered/x.db", "nfs"),
        ("/mnt/my bucket/deep/x.db", "fuse.gcsfuse"),
        ("/mnt/s3/x.db", "fuse.mountpoint-s3"),
    ],
)
def test_the_file_system_of_a_path(path: str, kind: str) -> None:
    assert file_system.file_system(Path(path), MOUNTS) == kind
    assert file_system.file_system(Path(path), "") is None


@pytest.mark.parametrize(
    ("mount", "words"),
    [
        ("server:/x / nfs4 rw 0 0", r"a network file system \(nfs4\)"),
        ("bucket / fuse.gcsfuse rw 0 0", r"a mounted bucket \(fuse.gcsfuse\), which cannot hold a live database"),
        ("mountpoint-s3 / fuse rw 0 0", "a mounted bucket"),
        ("remote: / fuse.rclone rw 0 0", "a mounted bucket"),
    ],
)
async def test_rejected_file_systems(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mount: str, words: str) -> None:
    monkeypatch.setattr(file_system, "_mounts", lambda: f"{mount}\n")
    with pytest.raises(StartupFailure, match=words):
        await SqliteStore(tmp_path / "x.db").start()


@pytest.mark.parametrize("folder", ["/dev/shm", None])
def test_a_local_disk_and_memory_are_suitable(tmp_path: Path, folder: str | None) -> None:
    place = Path(folder) if folder else tmp_path
    before = set(place.iterdir())
    assert file_system.tried(place) is None
    assert {path for path in set(place.iterdir()) - before if path.name.startswith(".try-")} == set()


@pytest.fixture
def mount(tmp_path: Path) -> Iterator[Mount]:
    with ExitStack() as stack:
        yield lambda *options: stack.enter_context(bindfs(tmp_path, options))


@contextmanager
def bindfs(tmp_path: Path, options: tuple[str, ...]) -> Iterator[Path]:
    """Mount a folder of the disk through FUSE."""
    source, point = tmp_path / "source", tmp_path / f"mount{len(list(tmp_path.iterdir()))}"
    source.mkdir(exist_ok=True)
    point.mkdir()
    server = subprocess.Popen(["bindfs", "-f", *options, source, point], cwd="/")
    try:
        deadline = time.monotonic() + 20
        while not point.is_mount():
            assert server.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.01)
        yield point
        subprocess.run(["umount", point], check=True)
    except BaseException:
        server.kill()
        raise
    finally:
        server.wait(20)


@needs_fuse
def test_fuse_with_everything_that_sqlite_needs(mount: Mount) -> None:
    assert file_system.tried(mount()) is None


@needs_fuse
@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("-o", "direct_io"), "without the shared memory maps that SQLite's WAL needs"),
        (("--rename-deny",), "where no file can be renamed"),
        (("-r",), "no folder can be created"),
    ],
)
def test_fuse_that_lacks_something(mount: Mount, options: tuple[str, ...], words: str) -> None:
    missing = file_system.tried(mount(*options))
    assert missing is not None
    assert words in missing


@needs_fuse
async def test_a_database_on_an_unsuitable_file_system_is_rejected(mount: Mount) -> None:
    """Without the trial the first write would fail with a disk error, when the front door already serves."""
    with pytest.raises(StartupFailure, match=r"is on a file system \(fuse\) without the shared memory maps"):
        await SqliteStore(mount("-o", "direct_io") / "sessions" / "x.db").start()


@needs_fuse
def test_a_folder_shared_by_two_kernels(mount: Mount, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each mount has its own locks and maps, like two machines on a share without locks."""
    one, other = mount(), mount()
    ask = file_system._ask_the_neighbour
    monkeypatch.setattr(file_system, "_ask_the_neighbour", lambda path: ask(other / path.relative_to(one)))
    assert file_system.tried(one) == "where one process does not see the locks of another"


@needs_fuse
def test_with_backups_the_file_moves_to_the_local_disk(mount: Mount, tmp_path: Path) -> None:
    point = mount("-o", "direct_io")
    named = point / "sessions" / "x.db"
    local = tmp_path / "data" / "sessions" / "sessions.db"

    def path(named: Path = named, bucket: str | None = "gs://backups") -> Path | None:
        settings = Settings.from_environment(
            cloud_run_session_db_path=named, data_dir=tmp_path / "data", storage_bucket=bucket
        )
        return database_path(settings)

    assert path() == local
    # Without a bucket it stays, and is rejected when it is opened. From a suitable disk it is not moved.
    assert path(bucket=None) == named
    assert path(tmp_path / "y.db") == tmp_path / "y.db"
    named.parent.mkdir()
    named.write_bytes(b"SQLite format 3\0")
    with pytest.raises(StartupFailure, match="session-manager db copy"):
        path()
