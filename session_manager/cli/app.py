"""The commands of ``session-manager``."""

from __future__ import annotations

from typing import Annotated

import typer

from session_manager import __version__
from session_manager.cli import chat, serve, sessions, show
from session_manager.cli.backup import backup
from session_manager.cli.db import db
from session_manager.cli.remote import AsJson

EXIT_CODES = (
    "Exit codes: 0 success · 1 the turn or something else failed · 2 invalid usage or input · 3 not found · "
    "4 no valid key, or not allowed · 5 front door unreachable · 6 conflict with the current state · "
    "7 over a limit or quota, or temporarily unavailable · 130 interrupted"
)

app = typer.Typer(
    name="session-manager",
    help="One private, durable pod per conversation.",
    epilog=EXIT_CODES,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def version(as_json: AsJson = False) -> None:
    """Print the version."""
    show.result({"version": __version__}, __version__, as_json=as_json)


def _show_version(wanted: bool) -> None:
    if wanted:
        print(__version__)
        raise typer.Exit


PANELS = {
    "Run": (serve.dev, serve.serve, version),
    "Talk": (sessions.create, chat.chat, chat.messages, chat.cancel),
    "Manage sessions": (
        sessions.list_sessions,
        sessions.status,
        sessions.wake,
        sessions.sleep,
        sessions.delete,
        sessions.logs,
    ),
}
for panel, commands in PANELS.items():
    for command in commands:
        app.command("list" if command is sessions.list_sessions else None, rich_help_panel=panel)(command)
for group in (db, backup):
    app.add_typer(group, rich_help_panel="Run")


@app.callback()
def options(
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Options of the program itself."""
