"""The commands ``dev`` and ``serve``. They import the server only when they run."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

Port = Annotated[int | None, typer.Option(help="Port to listen on; 0 takes a free one. (PORT)", show_default=False)]
Host = Annotated[str | None, typer.Option(help="Address to listen on. (HOST)", show_default=False)]
Classes = Annotated[
    Path | None, typer.Option(help="YAML file of SessionClasses. (SESSION_CLASSES)", show_default=False)
]
DataDir = Annotated[Path | None, typer.Option(help="Folder for all data. (DATA_DIR)", show_default=False)]


def dev(port: Port = None, data_dir: DataDir = None, classes: Classes = None) -> None:
    """Run everything on this machine, with pods as processes.

    This starts a front door, Redis, SQLite and pods. Ctrl-C stops
    them; sessions and messages stay in the data folder. Several may
    share one folder, on different ports. Settings come from the
    environment and .env.
    """
    from session_manager.cli.run import run_dev  # noqa: PLC0415

    run_dev(port=port, data_dir=data_dir, session_classes=classes)


def serve(port: Port = None, host: Host = None, data_dir: DataDir = None, classes: Classes = None) -> None:
    """Serve with an existing Redis and database.

    Set REDIS_URL (or REDIS_HOST, REDIS_PORT, REDIS_PASSWORD) and
    SESSION_DB_URI. To listen beyond this machine, set SESSION_API_KEYS too.
    SIGTERM finishes running turns first.
    """
    from session_manager.cli.run import run_serve  # noqa: PLC0415

    run_serve(port=port, host=host, data_dir=data_dir, session_classes=classes)
