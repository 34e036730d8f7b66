"""The work of ``dev``, ``serve`` and ``db upgrade``."""

from __future__ import annotations

import asyncio
import os
import shlex
import shutil
import sys
from pathlib import Path
from typing import Any

from session_manager import __version__
from session_manager.cli.remote import DEFAULT_URL
from session_manager.logs import setup_logging
from session_manager.serving.start import run_front_door
from session_manager.settings import Settings

DEV_SHUTDOWN_TIMEOUT = 3.0  # seconds for turns on Ctrl-C, when a person waits for the prompt


def run_dev(**given: Any) -> None:
    settings = Settings.from_environment(**given)
    if "SHUTDOWN_TIMEOUT" not in settings.given:
        settings = settings.updated("server", shutdown_timeout=DEV_SHUTDOWN_TIMEOUT)
    if settings.backup.bucket is None:  # on a laptop, a project that is set for agents does not ask for backups
        settings = settings.updated("backup", bucket="off")
    setup_logging(settings)

    def announce(port: int) -> None:
        print(banner(settings, port, _command()), flush=True)

    run_front_door(settings, announce, shared_redis=settings.given.isdisjoint({"REDIS_URL", "REDIS_HOST"}))


def run_serve(**given: Any) -> None:
    settings = Settings.from_environment(**given)
    setup_logging(settings)
    run_front_door(settings)


def banner(settings: Settings, port: int, command: str) -> str:
    """Return the first screen of ``dev``. ``command`` is how this program is called."""
    server = settings.server
    host = f"[{server.host}]" if ":" in server.host else server.host
    url = f"http://{host}:{port}"
    there = "" if url == DEFAULT_URL else f" --url {url}"
    key = ' -H "Authorization: Bearer $SESSION_MANAGER_KEY"' if server.api_keys else ""
    needs_key = "  export SESSION_MANAGER_KEY=…   # one of SESSION_API_KEYS\n" if key else ""
    return f"""
Session Manager {__version__} listens on {url}
Data is kept in {server.data_dir}/. Ctrl-C stops everything that was started here.

Try:
{needs_key}  curl -s {url}/session/create{key} -H 'Content-Type: application/json' -d '{{"user_id": "ada"}}'
  {command} chat $({command} create{there}) "Hello"{there}
  open {url}/docs in a browser
"""


def _command() -> str:
    """Return how to call this very program from here."""
    path = Path(sys.argv[0])
    found = shutil.which(path.name)
    if found is not None and path.samefile(found):
        return path.name
    return shlex.quote(os.path.relpath(path))


def upgrade_database(**given: Any) -> None:
    settings = Settings.from_environment(**given)
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
