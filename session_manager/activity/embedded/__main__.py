"""The process of the embedded Redis. It reads a redis.conf from standard input, as ``redis-server -`` does."""

from __future__ import annotations

import asyncio
import logging
import os
import shlex
import signal
import sys
from collections.abc import Mapping
from functools import partial
from pathlib import Path

log = logging.getLogger("session_manager.activity.embedded")

PARENT_EVERY = 1.0  # seconds


class _Format(logging.Formatter):
    """The form of Redis' log: ``1234:M 28 Nov 2026 16:20:00.123 * Ready``, with # for warnings and errors."""

    def format(self, record: logging.LogRecord) -> str:
        record.mark = "#" if record.levelno >= logging.WARNING else "*"
        return super().format(record)


def main() -> None:
    config = dict(line for line in map(shlex.split, sys.stdin) if len(line) == 2)
    os.chdir(config["dir"])
    handler = logging.FileHandler(config["logfile"], encoding="utf-8")
    handler.setFormatter(_Format("%(process)d:M %(asctime)s.%(msecs)03d %(mark)s %(message)s", "%d %b %Y %H:%M:%S"))
    logging.basicConfig(level=logging.INFO, handlers=[handler])
    parent = os.getppid()
    try:
        import uvloop  # noqa: PLC0415 - so that a failed import is logged

        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(_serve(config, parent))
    except OSError as error:
        log.error("cannot listen on 127.0.0.1:%s: %s", config["port"], os.strerror(error.errno or 0))
        sys.exit(1)
    except Exception as error:
        log.exception("%s", error)
        sys.exit(1)


async def _serve(config: Mapping[str, str], parent: int) -> None:
    from session_manager.activity.embedded.connection import Connection  # noqa: PLC0415
    from session_manager.activity.embedded.engine import Engine  # noqa: PLC0415
    from session_manager.activity.embedded.snapshot import Snapshot  # noqa: PLC0415

    loop = asyncio.get_running_loop()
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    engine = Engine(config["requirepass"], int(config["port"]))
    snapshot = Snapshot(engine, Path("snapshot.resp"))
    snapshot.load()
    connections: set[Connection] = set()
    server = await loop.create_server(partial(Connection, engine, connections), "127.0.0.1", engine.port, backlog=511)
    log.info("Ready to accept connections (embedded, fakeredis)")
    tasks = [asyncio.create_task(work) for work in (snapshot.run(), _until_orphaned(parent, stop))]
    await stop.wait()
    log.info("Stopping")
    server.close()
    for task in tasks:
        task.cancel()
    await asyncio.wait(tasks)
    for connection in list(connections):
        connection.close()
    snapshot.save()


async def _until_orphaned(parent: int, stop: asyncio.Event) -> None:
    """Stop when the program that started this one is gone. Linux sends SIGTERM then; macOS does not."""
    while os.getppid() == parent:  # noqa: ASYNC110 - nothing else reports it
        await asyncio.sleep(PARENT_EVERY)
    stop.set()


if __name__ == "__main__":
    main()
