"""Litestream as a tool: where it is, how it is configured, what it has stored.

It is the program that ships the pages of SQLite's WAL to a bucket as they are written: https://litestream.io. It finds
its credentials where every client of the bucket does, so its configuration holds none.
"""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import subprocess
from asyncio.subprocess import DEVNULL, PIPE
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from session_manager.domain.errors import BackupDamaged, StartupFailure, StorageUnavailable
from session_manager.storage.places import Place

VERSION = "0.5.18"
INSTALL = f"CGO_ENABLED=0 go install github.com/benbjohnson/litestream/cmd/litestream@v{VERSION}"
_OLDEST = (0, 5)
_NOTHING = "no matching backup files available"
_ASK_WITHIN = 60.0  # seconds
_RESTORE_WITHIN = 3600.0

# What finds credentials, certificates and proxies. Nothing else of ours is its business.
_PASSED = ("AWS_", "GOOGLE_", "GCE_", "CLOUDSDK_", "SSL_CERT_", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY")
_NAMES = ("PATH", "HOME", "TMPDIR")


def find_litestream(given: str | None) -> Path:
    """The executable. StartupFailure says how to get one."""
    found = shutil.which(given or "litestream")
    if found is None:
        raise StartupFailure(
            "BACKUP_MODE=continuous needs litestream 0.5 or newer, which was not found; install it "
            f"({INSTALL}), name it in LITESTREAM, or set BACKUP_MODE=interval"
        )
    version = _version(found)
    if version and version < _OLDEST:
        raise StartupFailure(f"{found} is litestream {'.'.join(map(str, version))}; 0.5 or newer is needed: {INSTALL}")
    return Path(found)


def _version(executable: str) -> tuple[int, ...] | None:
    """None for one that was built without."""
    try:
        answer = subprocess.run([executable, "version"], capture_output=True, text=True, timeout=10, check=True)
    except (OSError, subprocess.SubprocessError) as error:
        raise StartupFailure(f"{executable} cannot be run: {error}") from None
    numbers = answer.stdout.strip().removeprefix("v").partition("-")[0].split(".")
    return tuple(map(int, numbers)) if all(number.isdecimal() for number in numbers) else None


@dataclass(frozen=True, slots=True)
class Line:
    """What one writer shipped during one term. ``name`` is below ``place``."""

    place: Place
    name: str

    @property
    def url(self) -> str:
        return self.place.address(self.name)

    def replica(self) -> dict[str, Any]:
        """As Litestream's configuration names it."""
        path = self.place.path(self.name)
        if self.place.is_local:
            return {"type": "file", "path": path}
        bucket, _, key = path.partition("/")
        return {"type": self.place.url.partition("://")[0], "bucket": bucket, "path": key}


def configuration(database: Path, own: Path, socket: Path, line: Line, interval: float, patience: float) -> str:
    """Litestream's, which is JSON as well as YAML. Times in seconds.

    ``own`` is a folder beside the database for what it keeps itself. ``patience``: for what is left at the end.
    """
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
                "replica": {**line.replica(), "sync-interval": f"{interval}s"},
            }
        ],
    }
    return json.dumps(settings, indent=1)


def environment(endpoint: str | None, given: Mapping[str, str] = os.environ) -> dict[str, str]:
    """What the tool gets of ours. ``endpoint`` is an emulator of Google Cloud Storage."""
    passed = {name: value for name, value in given.items() if name in _NAMES or name.upper().startswith(_PASSED)}
    bundle = passed.pop("AWS_CA_BUNDLE", None)
    if bundle is not None:  # with it the tool's S3 client does not start; every Go program takes the other one
        passed.setdefault("SSL_CERT_FILE", bundle)
    return {**passed, "STORAGE_EMULATOR_HOST": endpoint} if endpoint else passed


async def newest_change(tool: Path, line: Line, endpoint: str | None) -> datetime | None:
    """When the newest change was stored; None where nothing was. StorageUnavailable: the tool could not tell."""
    code, out, err = await _restore(tool, line, endpoint, _ASK_WITHIN, "-dry-run", "-json", "-o", "unused")
    if code != 0:
        if _NOTHING in err:
            return None
        raise StorageUnavailable(reason=f"litestream: {_last_line(err)}")
    times = [datetime.fromisoformat(file["timestamp"]) for file in json.loads(out)["files"]]
    return max(times, default=None)


async def fetch(tool: Path, line: Line, endpoint: str | None, path: Path) -> None:
    """Write the newest state to the new file ``path``. BackupDamaged: what was stored does not fit together."""
    code, _, err = await _restore(tool, line, endpoint, _RESTORE_WITHIN, "-o", str(path))
    if code != 0:
        path.unlink(missing_ok=True)
        reason = f"litestream: {_last_line(err)}"
        raise BackupDamaged("The shipped changes cannot be put together", reason=reason)


async def _restore(tool: Path, line: Line, endpoint: str | None, timeout: float, *options: str) -> tuple[int, str, str]:
    """Exit code and output. The tool ends with the caller's patience."""
    process = await asyncio.create_subprocess_exec(
        tool,
        "restore",
        *options,
        line.url,
        stdin=DEVNULL,
        stdout=PIPE,
        stderr=PIPE,
        env=environment(endpoint),
        start_new_session=True,
    )
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


def _last_line(text: str) -> str:
    return (text.strip().splitlines() or ["it said nothing"])[-1]
