"""The commands ``dev`` and ``serve``. They import the server only when they run."""

from __future__ import annotations

import os
import shlex
import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from session_manager import __version__
from session_manager.cli.remote import DEFAULT_URL

if TYPE_CHECKING:
    from session_manager.settings import Settings

DEV_SHUTDOWN_TIMEOUT = 3.0  # seconds for turns on Ctrl-C, when a person waits for the prompt

Port = Annotated[int | None, typer.Option(help="Port to listen on; 0 takes a free one. (PORT)", show_default=False)]
Host = Annotated[str | None, typer.Option(help="Address to listen on. (HOST)", show_default=False)]
Classes = Annotated[
    Path | None, typer.Option(help="YAML file of SessionClasses. (SESSION_CLASSES)", show_default=False)
]
DataDir = Annotated[Path | None, typer.Option(help="Folder for all data. (DATA_DIR)", show_default=False)]


def configured(**chosen: object) -> Settings:
    """Return the settings, with logging set up as they say. Raises StartupFailure."""
    from session_manager.logs import setup_logging  # noqa: PLC0415
    from session_manager.settings import Settings  # noqa: PLC0415

    settings = Settings.from_environment(**chosen)
    setup_logging(settings)
    return settings


def dev(port: Port = None, data_dir: DataDir = None, classes: Classes = None) -> None:
    """Run everything on this machine, with pods as processes.

    This starts a front door, Redis, SQLite and pods. Ctrl-C stops
    them; sessions and messages stay in the data folder. Several may
    share one folder, on different ports. Settings come from the
    environment and .env.
    """
    from session_manager.serving.start import run_front_door  # noqa: PLC0415

    settings = configured(port=port, data_dir=data_dir, session_classes=classes)
    if "SHUTDOWN_TIMEOUT" not in settings.given:
        settings = settings.updated("server", shutdown_timeout=DEV_SHUTDOWN_TIMEOUT)
    if settings.backup.bucket is None:  # on a laptop, a project that is set for agents does not ask for backups
        settings = settings.updated("backup", bucket="off")

    def announce(port: int) -> None:
        print(banner(settings, port, _command()), flush=True)

    run_front_door(settings, announce, shared_redis=settings.given.isdisjoint({"REDIS_URL", "REDIS_HOST"}))


def serve(port: Port = None, host: Host = None, data_dir: DataDir = None, classes: Classes = None) -> None:
    """Serve with an existing Redis and database.

    Set REDIS_URL (or REDIS_HOST, REDIS_PORT, REDIS_PASSWORD) and
    SESSION_DB_URI. To listen beyond this machine, set SESSION_API_KEYS too.
    SIGTERM finishes running turns first.
    """
    from session_manager.serving.start import run_front_door  # noqa: PLC0415

    run_front_door(configured(port=port, host=host, data_dir=data_dir, session_classes=classes))


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
