"""The commands of ``session-manager``."""

from __future__ import annotations

import json
from typing import Annotated

import typer

from session_manager import __version__
from session_manager.cli import chat, serve, sessions
from session_manager.cli.backup import backup
from session_manager.cli.db import db
from session_manager.cli.remote import AsJson

EXIT_CODES = (
    "Exit codes: 0 success · 1 the turn or something else failed · 2 invalid usage or input · 3 not found · "
    "4 invalid key, or not allowed · 5 front door unreachable · 6 conflict with the current state · "
    "7 over a limit, or temporarily unavailable · 130 interrupted"
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

RUN, TALK, MANAGE = "Run", "Talk", "Manage sessions"

app.command(rich_help_panel=RUN)(serve.dev)
app.command(rich_help_panel=RUN)(serve.serve)
app.add_typer(db, name="db", rich_help_panel=RUN)
app.add_typer(backup, name="backup", rich_help_panel=RUN)
app.command(rich_help_panel=TALK)(sessions.create)
app.command(rich_help_panel=TALK)(chat.chat)
app.command(rich_help_panel=TALK)(chat.messages)
app.command(rich_help_panel=TALK)(chat.cancel)
app.command("list", rich_help_panel=MANAGE)(sessions.list_sessions)
app.command(rich_help_panel=MANAGE)(sessions.status)
app.command(rich_help_panel=MANAGE)(sessions.wake)
app.command(rich_help_panel=MANAGE)(sessions.sleep)
app.command(rich_help_panel=MANAGE)(sessions.delete)
app.command(rich_help_panel=MANAGE)(sessions.logs)


@app.command(rich_help_panel=RUN)
def version(as_json: AsJson = False) -> None:
    """Print the version."""
    print(json.dumps({"version": __version__}) if as_json else __version__)


def _show_version(wanted: bool) -> None:
    if wanted:
        print(__version__)
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Options of the program itself."""
