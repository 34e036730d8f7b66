"""Starts a front door in this process. User errors are found before anything heavy is imported."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from functools import partial
from pathlib import Path

from pydantic import SecretStr

from session_manager.aio.tasks import unless
from session_manager.domain.errors import StartupFailure
from session_manager.runtime.process.keeper import raise_file_limit
from session_manager.serving import memory
from session_manager.serving.process import Stop, listen, reject_open_door, run_until_signalled, with_own_address
from session_manager.serving.shared_redis import SharedRedis
from session_manager.settings import Settings

Announce = Callable[[int], None]  # gets the port, once requests are served


def run_front_door(settings: Settings, announce: Announce = lambda port: None, *, shared_redis: bool = False) -> None:
    """Serve until a signal. ``shared_redis``: with the Redis of the data folder. Raises StartupFailure."""
    reject_open_door(settings)
    memory.prepare()
    raise_file_limit()  # a connection takes a file, and the usual limit is 1,024 or even 256
    with listen(settings) as listener:
        if settings.pods.runtime == "process":
            _make_folder(settings.server.data_dir)
        work = _serve_with_shared_redis if shared_redis else _serve
        run_until_signalled(partial(work, with_own_address(settings, listener), listener, announce))


async def _serve_with_shared_redis(settings: Settings, listener: socket.socket, announce: Announce, stop: Stop) -> None:
    redis = SharedRedis(settings.server.data_dir / "redis")
    try:
        await unless(stop.asked, redis.start())
        if not stop.asked.is_set():
            await _serve(settings.updated("redis", url=SecretStr(redis.url)), listener, announce, stop)
    finally:
        await redis.stop()


async def _serve(settings: Settings, listener: socket.socket, announce: Announce, stop: Stop) -> None:
    from session_manager.serving.server import FrontDoor  # noqa: PLC0415  half a second

    await FrontDoor(settings, listener, announce).run(stop)


def _make_folder(path: Path) -> None:
    """Make a folder for this user only. Raises StartupFailure if it cannot be written to."""
    reason = "permission denied"
    try:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
    except FileExistsError:
        reason = "not a folder"
    except OSError as error:
        reason = str(error.strerror).lower()
    if not (path.is_dir() and os.access(path, os.W_OK | os.X_OK)):
        raise StartupFailure(f"DATA_DIR: cannot write to {path} ({reason}); choose another folder")
