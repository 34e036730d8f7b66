"""The file of the embedded Redis: the commands that make its data again.

It is written a second after a change, into a new file that replaces the old one, and once more when the server stops.
So a kill loses up to a second, as a power cut does with ``appendfsync everysec``.  Nothing depends on that second:
messages and results are in SQL, and after a restart of Redis every front door adopts a new generation.
"""

from __future__ import annotations

import asyncio
import logging
import os
import time
from collections.abc import Iterator
from pathlib import Path

import hiredis
from fakeredis.model import ExpiringMembersSet, Hash, ZSet

from session_manager.activity.embedded.engine import Client, Engine

log = logging.getLogger(__name__)

EVERY = 1.0  # seconds
SHARE = 0.05  # of all time that dumping may take, because no client is served meanwhile

Command = tuple[bytes, ...]


class Snapshot:
    """Call ``load`` once, then ``run``, and ``save`` at the end."""

    def __init__(self, engine: Engine, path: Path) -> None:
        self._engine = engine
        self._path = path
        self._saved = 0  # the engine's count of changes that is on disk

    def load(self) -> None:
        """Restore the data. If the file cannot be read, log that and start empty."""
        try:
            _restore(self._engine, self._path.read_bytes())
        except FileNotFoundError:
            pass
        except (OSError, ValueError, hiredis.ProtocolError) as error:
            log.warning("cannot read %s (%s): starting empty", self._path.name, error)
            self._engine.clear()
        self._saved = self._engine.changes

    async def run(self) -> None:
        """Save what changed, until cancelled. A write that has begun is finished first."""
        pause = EVERY
        while True:
            await asyncio.sleep(pause)
            self._engine.forget_expired()
            if self._engine.changes == self._saved:
                continue
            started = time.perf_counter()
            data = self._dump()
            pause = max(EVERY, (time.perf_counter() - started) / SHARE)
            writing = asyncio.create_task(asyncio.to_thread(self._write, data))
            try:
                await asyncio.shield(writing)
            finally:
                await writing  # its thread goes on when this task is cancelled, and ``save`` writes the same file

    def save(self) -> None:
        if self._engine.changes != self._saved:
            self._write(self._dump())

    def _dump(self) -> bytes:
        self._saved = self._engine.changes
        return b"".join(hiredis.pack_command(command) for command in _commands(self._engine))  # type: ignore[arg-type]

    def _write(self, data: bytes) -> None:
        fresh = self._path.with_suffix(".new")
        try:
            with fresh.open("wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            fresh.replace(self._path)
        except OSError as error:
            log.warning("cannot write %s: %s", self._path.name, error.strerror)
            self._saved = -1


def _restore(engine: Engine, data: bytes) -> None:
    replies: list[object] = []
    client = Client(engine, replies.append)
    client.authenticated = True
    reader = hiredis.Reader(notEnoughData=None)
    reader.feed(data)
    while (command := reader.gets()) is not None:
        if not isinstance(command, list) or not all(isinstance(part, bytes) for part in command):
            raise ValueError("not a list of commands")
        client.process(command)
    client.close()
    failed = [reply for reply in replies if isinstance(reply, Exception)]
    if reader.has_data() or failed:
        raise ValueError(str(failed[0]) if failed else "it is cut off")


def _commands(engine: Engine) -> Iterator[Command]:
    for number, database in engine.server.dbs.items():
        if len(database):
            yield b"SELECT", b"%d" % number
        for key in database:
            item = database[key]
            if command := _command(key, item.value):
                yield command
            if item.expireat is not None:
                yield b"PEXPIREAT", key, b"%d" % round(item.expireat * 1000)


def _command(key: bytes, value: object) -> Command | None:
    """Return the command that makes a value; None for the types that only Redis modules and streams have."""
    match value:
        case bytes():
            return b"SET", key, value
        case list():
            return b"RPUSH", key, *value
        case Hash():
            return b"HSET", key, *(part for pair in value.items() for part in pair)
        case ZSet():
            return b"ZADD", key, *(part for name, score in value.items() for part in (b"%.17g" % score, name))
        case ExpiringMembersSet():
            return b"SADD", key, *value
    return None
