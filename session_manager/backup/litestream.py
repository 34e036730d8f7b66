"""Litestream as a tool: where it is, how it is configured, and the lines of changes that it has shipped.

It is the program that ships the pages of SQLite's WAL to a bucket as they are written: https://litestream.io. It finds
its credentials where every client of the bucket does, so its configuration holds none.

A line holds what one writer shipped during one term. A marker beside it announces it.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import shutil
import subprocess
from asyncio.subprocess import DEVNULL, PIPE, Process
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from session_manager.domain.errors import BackupDamaged, StartupFailure, StorageError, StorageUnavailable
from session_manager.leadership.bucket_lease import Record
from session_manager.storage.places import Place

VERSION = "0.5.18"
INSTALL = f"CGO_ENABLED=0 go install github.com/benbjohnson/litestream/cmd/litestream@v{VERSION}"
FOLDER = "session_shipping"
KEPT = 3  # lines, of which the newest is that of the present writer
_LINE = re.compile(r"(\d{12})-[0-9a-f]{8}")

# Variables that locate credentials, certificates and proxies. The tool needs no others.
_PASSED = ("AWS_", "GOOGLE_", "GCE_", "CLOUDSDK_", "SSL_CERT_", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY")
_NAMES = ("PATH", "HOME", "TMPDIR")


@dataclass(frozen=True, slots=True)
class Line:
    """The changes that one writer shipped during one term. ``name`` is relative to ``place``."""

    place: Place
    name: str

    @property
    def url(self) -> str:
        return self.place.address(self.name)

    @property
    def term(self) -> int:
        return int(self.name.rpartition("/")[2].partition("-")[0])


def line_of(place: Place, record: Record) -> Line:
    return Line(place, f"{FOLDER}/{record.term:012d}-{record.holder[:8]}")


def announce(line: Line, record: Record) -> None:
    """Store the marker of the line. Call this before anything is shipped to it."""
    about = {"term": record.term, "instance": record.instance, "since": datetime.now(UTC).isoformat(timespec="seconds")}
    line.place.write(f"{line.name}.json", [json.dumps(about).encode()])


def all_lines(place: Place) -> list[Line]:
    """Return the announced lines, newest first."""
    names = (entry.name.rpartition("/")[2].removesuffix(".json") for entry in place.entries(FOLDER))
    return [Line(place, f"{FOLDER}/{name}") for name in sorted(names, reverse=True) if _LINE.fullmatch(name)]


def forget_old(place: Place) -> int:
    """Remove all but the newest lines, and return how many. What the place does not allow to remove stays."""
    gone = 0
    for line in all_lines(place)[KEPT:]:
        with suppress(StorageError), place.errors():
            with suppress(FileNotFoundError):
                place.fs.rm(place.path(line.name), recursive=True)
            place.delete(f"{line.name}.json")
            gone += 1
    return gone


def configuration(database: Path, own: Path, socket: Path, line: Line, interval: float, patience: float) -> str:
    """Return Litestream's configuration, as JSON, which is also YAML. Times in seconds.

    ``own`` is a folder beside the database for its own files. ``patience`` is the time for the last changes at the end.
    """
    replica = {"type": line.place.url.partition("://")[0], "path": line.place.path(line.name)}
    if not line.place.is_local:
        replica["bucket"], _, replica["path"] = replica["path"].partition("/")
    settings = {
        "logging": {"type": "json", "level": "info", "stderr": True},
        "socket": {"enabled": True, "path": str(socket), "permissions": 0o600},
        "snapshot": {"interval": "6h", "retention": "24h"},
        "shutdown-sync-timeout": f"{patience}s",
        "dbs": [
            {
                "path": str(database),
                "meta-path": str(own),
                "monitor-interval": f"{min(interval, 1.0)}s",
                "replica": {**replica, "sync-interval": f"{interval}s"},
            }
        ],
    }
    return json.dumps(settings, indent=1)


@dataclass(frozen=True, slots=True)
class Litestream:
    """The installed program. ``endpoint`` is that of a Google Cloud Storage emulator."""

    program: Path
    endpoint: str | None = None

    @classmethod
    def find(cls, given: str | None, endpoint: str | None, *, needed: bool = True) -> Litestream | None:
        """Find the program, or return None if it is not ``needed``. Raises StartupFailure, with how to install it."""
        found = shutil.which(given or "litestream")
        if found is None and needed:
            raise StartupFailure(
                "BACKUP_MODE=continuous needs litestream 0.5 or newer, which was not found; install it "
                f"({INSTALL}), name it in LITESTREAM, or set BACKUP_MODE=interval"
            )
        version = _version(found) if found and needed else None
        if version and version < (0, 5):
            shown = ".".join(map(str, version))
            raise StartupFailure(f"{found} is litestream {shown}; 0.5 or newer is needed: {INSTALL}")
        return cls(Path(found), endpoint) if found else None

    def environment(self, given: Mapping[str, str] = os.environ) -> dict[str, str]:
        """Return the variables that the program gets."""
        passed = {name: value for name, value in given.items() if name in _NAMES or name.upper().startswith(_PASSED)}
        bundle = passed.pop("AWS_CA_BUNDLE", None)
        if bundle is not None:  # the program's S3 client does not start with it; every Go program reads the other one
            passed.setdefault("SSL_CERT_FILE", bundle)
        return {**passed, "STORAGE_EMULATOR_HOST": self.endpoint} if self.endpoint else passed

    async def newest_change(self, line: Line) -> datetime | None:
        """Return when the newest change was stored, or None if there is none. Raises StorageUnavailable."""
        code, out, err = await self._restore(line, 60.0, "-dry-run", "-json", "-o", "unused")
        if code != 0:
            if "no matching backup files available" in err:
                return None
            raise StorageUnavailable(reason=f"litestream: {_last_line(err)}")
        times = [datetime.fromisoformat(file["timestamp"]) for file in json.loads(out)["files"]]
        return max(times, default=None)

    async def fetch(self, line: Line, path: Path) -> None:
        """Write the newest state to the new file ``path``. Raises BackupDamaged if the stored files do not match."""
        code, _, err = await self._restore(line, 3600.0, "-o", str(path))
        if code != 0:
            path.unlink(missing_ok=True)
            raise BackupDamaged("The shipped changes do not fit together", reason=f"litestream: {_last_line(err)}")

    async def run(self, *command: str, before: Sequence[str] = (), stdout: int = DEVNULL) -> Process:
        """Start the program. ``before`` is a command that executes it. Raises OSError."""
        return await asyncio.create_subprocess_exec(
            *before,
            self.program,
            *command,
            stdin=DEVNULL,
            stdout=stdout,
            stderr=PIPE,
            env=self.environment(),
            start_new_session=True,
        )

    async def _restore(self, line: Line, timeout: float, *options: str) -> tuple[int, str, str]:
        """Run ``litestream restore`` and return its exit code and output. It is killed after ``timeout`` seconds."""
        process = await self.run("restore", *options, line.url, stdout=PIPE)
        try:
            async with asyncio.timeout(timeout):
                out, err = await process.communicate()
        except TimeoutError:
            raise StorageUnavailable(reason=f"litestream: no answer in {timeout:g} s") from None
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
        return process.returncode or 0, out.decode(errors="replace"), err.decode(errors="replace")


def _version(executable: str) -> tuple[int, ...] | None:
    """Return the version, or None if the program was built without one."""
    try:
        answer = subprocess.run([executable, "version"], capture_output=True, text=True, timeout=10, check=True)
    except (OSError, subprocess.SubprocessError) as error:
        raise StartupFailure(f"{executable} could not be run: {error}") from None
    numbers = answer.stdout.strip().removeprefix("v").partition("-")[0].split(".")
    return tuple(map(int, numbers)) if all(number.isdecimal() for number in numbers) else None


def _last_line(text: str) -> str:
    return text.strip().rpartition("\n")[2] or "no output"
