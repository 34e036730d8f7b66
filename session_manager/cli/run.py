"""What ``dev``, ``serve`` and ``db upgrade`` do."""

from __future__ import annotations

import asyncio
import os
import shlex
import shutil
import socket
import sys
from collections.abc import Callable, Coroutine
from functools import partial
from pathlib import Path
from typing import Any

from pydantic import SecretStr

from session_manager import __version__
from session_manager.aio.tasks import unless
from session_manager.cli.config import listen, load_settings, make_folder, refuse_open_door, with_own_address
from session_manager.cli.remote import DEFAULT_URL
from session_manager.logs import setup_logging
from session_manager.runtime.process.keeper import raise_file_limit
from session_manager.serving.shared_redis import SharedRedis
from session_manager.serving.signals import Stop, run_until_signalled
from session_manager.settings import Settings

DEV_PATIENCE = 3.0  # seconds that turns get on Ctrl-C: somebody sits there and waits


def run_dev(**given: Any) -> None:
    settings = load_settings(**given)
    if "shutdown_timeout" not in settings.model_fields_set:
        settings = settings.model_copy(update={"shutdown_timeout": DEV_PATIENCE})
    if settings.storage_bucket is None:  # a project that is set for the agents' sake asks for no bucket of ours
        settings = settings.model_copy(update={"storage_bucket": "off"})
    _run(settings, _dev)


def run_serve(**given: Any) -> None:
    _run(load_settings(**given), partial(_front_door, announce=lambda: None))


def _run(settings: Settings, work: Callable[[Settings, socket.socket, Stop], Coroutine[Any, Any, None]]) -> None:
    """Check first what a person may have got wrong, then import and start what is heavy."""
    setup_logging(settings)
    refuse_open_door(settings)
    raise_file_limit()  # a file for each caller who stays: the usual 1,024, or 256, are soon taken
    with listen(settings) as listener:
        if settings.session_runtime == "process":
            make_folder(settings.data_dir)
        run_until_signalled(partial(work, with_own_address(settings, listener), listener))


async def _dev(settings: Settings, listener: socket.socket, stop: Stop) -> None:
    def announce() -> None:
        print(banner(settings, listener.getsockname()[1], _command()), flush=True)

    if settings.model_fields_set & {"redis_url", "redis_host"}:
        await _front_door(settings, listener, stop, announce)
        return
    redis = SharedRedis(settings.data_dir / "redis")
    try:
        await unless(stop.asked, redis.start())
        if not stop.asked.is_set():
            url = SecretStr(redis.url)
            await _front_door(settings.model_copy(update={"redis_url": url}), listener, stop, announce)
    finally:
        await redis.stop()


async def _front_door(settings: Settings, listener: socket.socket, stop: Stop, announce: Callable[[], None]) -> None:
    from session_manager.serving.server import FrontDoor  # noqa: PLC0415  half a second

    await FrontDoor(settings, listener, announce).run(stop)


def banner(settings: Settings, port: int, command: str) -> str:
    """What a person reads first; ``command`` is how this program is called."""
    host = f"[{settings.host}]" if ":" in settings.host else settings.host
    url = f"http://{host}:{port}"
    there = "" if url == DEFAULT_URL else f" --url {url}"
    key = ' -H "Authorization: Bearer $SESSION_MANAGER_KEY"' if settings.session_api_keys else ""
    needs_key = "  export SESSION_MANAGER_KEY=…   # one of SESSION_API_KEYS\n" if key else ""
    return f"""
Session Manager {__version__} listens on {url}
Data is kept in {settings.data_dir}/. Ctrl-C stops everything that was started here.

Try:
{needs_key}  curl -s {url}/session/create{key} -H 'Content-Type: application/json' -d '{{"user_id": "ada"}}'
  {command} chat $({command} create{there}) "Hello"{there}
  open {url}/docs in a browser
"""


def _command() -> str:
    """How this very program is called from here."""
    path = Path(sys.argv[0])
    found = shutil.which(path.name)
    if found is not None and path.samefile(found):
        return path.name
    return shlex.quote(os.path.relpath(path))


def upgrade_database(**given: Any) -> None:
    settings = load_settings(**given)
    setup_logging(settings)
    print(f"{asyncio.run(_upgrade(settings))} is up to date")


async def _upgrade(settings: Settings) -> str:
    from session_manager.store.open import open_store  # noqa: PLC0415

    store = open_store(settings)
    try:
        await store.start()
    finally:
        await store.close()
    return store.uri
