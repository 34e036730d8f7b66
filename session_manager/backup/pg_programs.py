"""Running PostgreSQL's own programs, from PATH or from Debian's folders. No password appears on a command line."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryFile
from typing import IO
from urllib.parse import parse_qsl, unquote, urlencode, urlsplit

from session_manager.backup.packing import BLOCK
from session_manager.domain.errors import BackupDamaged, BackupError

_DEBIAN = Path("/usr/lib/postgresql")
_COPY = re.compile(rb'COPY ("(?:[^"]|"")*"|[^". ]+)\.("(?:[^"]|"")*"|[^". ]+) ')
_PASSWORD = "password"  # noqa: S105  the name of a parameter
_POLL = 0.2  # seconds between looks at the size of the dump

Done = Callable[[int], None]
"""Called with the number of bytes done so far. An exception from it ends the program."""


@dataclass(frozen=True)
class Server:
    """A server to connect to: ``target`` for a command line, and the password for the program's environment."""

    uri: str = field(repr=False)

    @property
    def target(self) -> str:
        parts = urlsplit(self.uri)
        login, at, place = parts.netloc.rpartition("@")
        query = urlencode([each for each in parse_qsl(parts.query) if each[0] != _PASSWORD])
        return parts._replace(netloc=login.partition(":")[0] + at + place, query=query).geturl()

    @property
    def environment(self) -> dict[str, str]:
        parts = urlsplit(self.uri)
        password = unquote(parts.netloc.rpartition("@")[0].partition(":")[2])
        password = password or dict(parse_qsl(parts.query)).get(_PASSWORD, "")  # asyncpg prefers the first one, too
        return {"PGPASSWORD": password} if password else {}


def run_dump(server: Server, path: Path, snapshot: str, done: Done) -> None:
    """Write the snapshot in pg_dump's own format, uncompressed: backups of every engine are compressed later."""
    path.touch(0o600, exist_ok=False)
    options = ["--format=custom", "--compress=0", "--no-password", "--lock-wait-timeout=60000"]
    with _started("pg_dump", *options, f"--snapshot={snapshot}", f"--file={path}", f"--dbname={server.target}",
                  environment=server.environment) as process:  # fmt: skip
        while process.poll() is None:
            done(path.stat().st_size)
            with suppress(subprocess.TimeoutExpired):
                process.wait(_POLL)


def count_copied(path: Path, done: Done) -> dict[str, int]:
    """Return the number of rows of each ``schema.table`` in a dump. Raises BackupDamaged if it cannot be read."""
    rows: dict[str, int] = {}
    table = None
    size = 0
    try:
        with _started("pg_restore", "--data-only", "--file=-", path, stdout=subprocess.PIPE) as process:
            for line in _pipe(process.stdout):
                size += len(line)
                if table is None:
                    if table := _copied_table(line):
                        rows[table] = 0
                elif line == b"\\.\n":
                    table = None
                    done(size)
                else:
                    rows[table] += 1
    except ProgramFailed as error:
        raise BackupDamaged("The backup is not an intact dump of a database", reason=error.reason) from error
    return rows


def run_restore(server: Server, path: Path, checks: str, done: Done) -> None:
    """Run the dump and then ``checks`` in one transaction. A run that is killed before the end changes nothing."""
    psql = ("psql", "--no-psqlrc", "--quiet", "--no-password", "--set=ON_ERROR_STOP=1", "--output=/dev/null")
    size = 0
    with _started(*psql, f"--dbname={server.target}", environment=server.environment, stdin=subprocess.PIPE) as into:
        script = _pipe(into.stdin)
        # Not psql's own --single-transaction: it would commit when its input ends early.
        script.write(b"BEGIN;\n")
        with _started("pg_restore", "--no-owner", "--no-acl", "--file=-", path, stdout=subprocess.PIPE) as out:
            dump = _pipe(out.stdout)
            while block := dump.read(BLOCK):
                script.write(block)
                size += len(block)
                done(size)
        script.write(f"{checks}\nCOMMIT;\n".encode())
        script.close()


class ProgramFailed(BackupError):
    """One of PostgreSQL's programs ended with an error; ``reason`` is the end of its output."""


def find_program(name: str) -> Path:
    """Return the newest installed version, since older ones reject newer servers. Raises BackupError."""
    on_path = shutil.which(name)
    candidates = [*_DEBIAN.glob(f"*/bin/{name}"), *([Path(on_path)] if on_path else [])]
    if not candidates:
        raise BackupError(f"{name} is not installed: install PostgreSQL's client (apt install postgresql-client)")
    return max(candidates, key=_version)


def _version(program: Path) -> int:
    shown = subprocess.run([program, "--version"], capture_output=True, text=True, check=False).stdout
    return int(next(iter(re.findall(r"\d+", shown)), 0))


@contextmanager
def _started(
    name: str,
    *arguments: str | Path,
    environment: dict[str, str] | None = None,
    stdin: int = subprocess.DEVNULL,
    stdout: int = subprocess.DEVNULL,
) -> Iterator[subprocess.Popen[bytes]]:
    """Yield the running program, and kill it if the block is left early. Raises ProgramFailed if it fails."""
    program = find_program(name)
    with TemporaryFile() as errors:
        process = subprocess.Popen(
            [program, *arguments],
            stdin=stdin, stdout=stdout, stderr=errors,
            env={"PATH": str(program.parent), "LC_MESSAGES": "C", **(environment or {})},
        )  # fmt: skip
        try:
            yield process
        except BrokenPipeError:
            process.wait()
        except BaseException:
            process.kill()
            process.wait()
            raise
        finally:
            for stream in (process.stdin, process.stdout):
                if stream is not None:
                    with suppress(BrokenPipeError):
                        stream.close()
        if process.wait() != 0:
            errors.seek(0)
            shown = " ".join(errors.read().decode("utf-8", "replace").split())
            raise ProgramFailed(f"{name} failed", reason=f"{name}: {shown[-500:]}")


def _pipe(stream: IO[bytes] | None) -> IO[bytes]:
    if stream is None:
        raise ValueError("the program was started without this pipe")
    return stream


def _copied_table(line: bytes) -> str | None:
    found = _COPY.match(line)
    return ".".join(_unquoted(part.decode()) for part in found.groups()) if found else None


def _unquoted(name: str) -> str:
    return name[1:-1].replace('""', '"') if name.startswith('"') else name
