"""PostgreSQL's own programs, from PATH or from where Debian puts them. No password stands on a command line."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryFile
from typing import IO
from urllib.parse import parse_qsl, unquote, urlencode, urlsplit

from session_manager.domain.errors import BackupDamaged, BackupError
from session_manager.storage.streams import BLOCK

_DEBIAN = Path("/usr/lib/postgresql")
_COPY = re.compile(rb'COPY ("(?:[^"]|"")*"|[^". ]+)\.("(?:[^"]|"")*"|[^". ]+) ')
_PASSWORD = "password"  # noqa: S105  its name in the query of an address
_POLL = 0.2  # seconds between looks at how long the dump has become

Done = Callable[[int], None]
"""Told how many bytes are done; what it raises ends the program."""


@dataclass(frozen=True)
class Server:
    """Where to connect: ``target`` for a command line, the password for the program's environment."""

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
        password = password or dict(parse_qsl(parts.query)).get(_PASSWORD, "")  # which counts less to asyncpg, too
        return {"PGPASSWORD": password} if password else {}


def run_dump(server: Server, path: Path, snapshot: str, done: Done) -> None:
    """The snapshot as pg_dump's own format, not compressed: that is done for every engine alike."""
    path.touch(0o600, exist_ok=False)
    options = ["--format=custom", "--compress=0", "--no-password", "--lock-wait-timeout=60000"]
    with _started("pg_dump", *options, f"--snapshot={snapshot}", f"--file={path}", f"--dbname={server.target}",
                  environment=server.environment) as process:  # fmt: skip
        while process.poll() is None:
            done(path.stat().st_size)
            _wait(process)


def count_copied(path: Path, done: Done) -> dict[str, int]:
    """Rows of each ``schema.table`` in a dump, read to its end. BackupDamaged where pg_restore cannot read it."""
    rows: dict[str, int] = {}
    table: str | None = None
    size = 0
    try:
        with _started("pg_restore", "--data-only", "--file=-", path, stdout=subprocess.PIPE) as process:
            for line in _pipe(process.stdout):
                size += len(line)
                if table is None:
                    table = _copied_table(line)
                    if table is not None:
                        rows[table] = 0
                elif line == b"\\.\n":
                    table = None
                    done(size)
                else:
                    rows[table] += 1
    except ProgramFailed as error:
        raise BackupDamaged("The backup is no whole dump of a database", reason=error.reason) from error
    return rows


def run_restore(server: Server, path: Path, checks: str, done: Done) -> None:
    """Everything of the dump and then ``checks``, as one transaction. Who is killed before the end has done nothing."""
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
    """One of PostgreSQL's programs ended with an error; ``reason`` is its last words."""


def find_program(name: str) -> Path:
    """The newest there is: an older one refuses a newer server. BackupError where there is none."""
    on_path = shutil.which(name)
    candidates = [*_DEBIAN.glob(f"*/bin/{name}"), *([Path(on_path)] if on_path else [])]
    if not candidates:
        raise BackupError(f"{name} is not installed: it comes with PostgreSQL's client (apt install postgresql-client)")
    return max(candidates, key=_version)


def _version(program: Path) -> int:
    shown = subprocess.run([program, "--version"], capture_output=True, text=True, check=False).stdout
    found = re.search(r"\d+", shown)
    return int(found[0]) if found else 0


@contextmanager
def _started(
    name: str,
    *arguments: str | Path,
    environment: dict[str, str] | None = None,
    stdin: int = subprocess.DEVNULL,
    stdout: int = subprocess.DEVNULL,
) -> Iterator[subprocess.Popen[bytes]]:
    """The program while it runs. Left early it is killed; ProgramFailed if it ends with an error."""
    program = find_program(name)
    with TemporaryFile() as words:
        process = subprocess.Popen(
            [program, *arguments],
            stdin=stdin, stdout=stdout, stderr=words,
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
            _close(process)
        if process.wait() != 0:
            raise ProgramFailed(f"{name} failed", reason=f"{name}: {_last(words)}")


def _close(process: subprocess.Popen[bytes]) -> None:
    for stream in (process.stdin, process.stdout):
        if stream is not None and not stream.closed:
            try:
                stream.close()
            except BrokenPipeError:
                continue


def _wait(process: subprocess.Popen[bytes]) -> None:
    try:
        process.wait(_POLL)
    except subprocess.TimeoutExpired:
        return


def _pipe(stream: IO[bytes] | None) -> IO[bytes]:
    if stream is None:
        raise ValueError("the program was started without this pipe")
    return stream


def _copied_table(line: bytes) -> str | None:
    found = _COPY.match(line) if line.startswith(b"COPY ") else None
    return ".".join(_unquoted(part.decode()) for part in found.groups()) if found else None


def _unquoted(name: str) -> str:
    return name[1:-1].replace('""', '"') if name.startswith('"') else name


def _last(words: IO[bytes]) -> str:
    words.seek(0)
    return " ".join(words.read().decode("utf-8", "replace").split())[-500:]
