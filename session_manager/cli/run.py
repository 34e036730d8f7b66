"""What ``dev``, ``serve`` and ``db upgrade`` do."""

from __future__ import annotations

import asyncio
import os
import shlex
import shutil
import socket
import sys
from functools import partial
from pathlib import Path
from typing import Any

from pydantic import SecretStr

from session_manager import __version__
from session_manager.cli.config import listen, load_settings, make_folder, refuse_open_door
from session_manager.cli.remote import DEFAULT_URL
from session_manager.cli.server import FrontDoor, run_until_signalled
from session_manager.cli.shared_redis import SharedRedis
from session_manager.logs import setup_logging
from session_manager.runtime.classes import load_classes
from session_manager.settings import Settings
from session_manager.store.open import open_store

DEV_PATIENCE = 3.0  # seconds that turns get on Ctrl-C: somebody sits there and waits


def run_dev(**given: Any) -> None:
    settings = load_settings(**given)
    if "shutdown_timeout" not in settings.model_fields_set:
        settings = settings.model_copy(update={"shutdown_timeout": DEV_PATIENCE})
    setup_logging(settings)
    refuse_open_door(settings)
    with listen(settings) as listener:
        make_folder(settings.data_dir)
        own_redis = not settings.model_fields_set & {"redis_url", "redis_host"}
        redis = SharedRedis(settings.data_dir / "redis") if own_redis else None
        run_until_signalled(partial(_dev, settings, redis, listener))


async def _dev(
    settings: Settings,
    redis: SharedRedis | None,
    listener: socket.socket,
    asked: asyncio.Event,
    at_once: asyncio.Event,
) -> None:
    if redis is None:
        await _front_door(settings, listener, asked, at_once, banner=True)
        return
    try:
        url = SecretStr(await redis.start())
        settings = settings.model_copy(update={"redis_url": url})
        await _front_door(settings, listener, asked, at_once, banner=True)
    finally:
        await redis.stop()


def run_serve(**given: Any) -> None:
    settings = load_settings(**given)
    setup_logging(settings)
    refuse_open_door(settings)
    with listen(settings) as listener:
        make_folder(settings.data_dir)
        run_until_signalled(partial(_front_door, settings, listener, banner=False))


async def _front_door(
    settings: Settings, listener: socket.socket, asked: asyncio.Event, at_once: asyncio.Event, *, banner: bool
) -> None:
    def announce() -> None:
        if banner:
            print(_banner(settings, listener), flush=True)

    await FrontDoor(settings, load_classes(settings), listener, announce).run(asked, at_once)


def _banner(settings: Settings, listener: socket.socket) -> str:
    port = listener.getsockname()[1]
    host = f"[{settings.host}]" if ":" in settings.host else settings.host
    url = f"http://{host}:{port}"
    command = _command()
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
    store = open_store(settings)
    try:
        await store.start()
    finally:
        await store.close()
    return store.uri
