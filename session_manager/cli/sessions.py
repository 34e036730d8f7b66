"""The commands that manage sessions."""

from __future__ import annotations

import getpass
import re
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer

from session_manager.cli import show
from session_manager.cli.remote import AsJson, Remote, SessionId, remote

if TYPE_CHECKING:
    from session_manager.client import Client

REFRESH = 0.1  # seconds between two requests for the state of a session
FOLLOW_PAUSE = 1.0
FOLLOW_WINDOW = 10_000  # lines; the most that a front door returns
YOUR_USER = "pass --user or set SESSION_MANAGER_USER to the user of your key"
_UNITS = {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86_400}


def duration(text: str) -> float:
    """Return the seconds in ``90``, ``90s``, ``15m``, ``2h`` or ``30d``."""
    found = re.fullmatch(r"(\d+(?:\.\d+)?)([smhd]?)", text.strip())
    if found is None:
        raise typer.BadParameter(f'invalid duration "{text}"; expected for example 90s, 15m, 2h or 30d')
    return float(found[1]) * _UNITS[found[2]]


StatusFilter = Annotated[str | None, typer.Option("--status", help="Only sessions with this status.")]
Age = Annotated[
    float | None,
    typer.Option(parser=duration, metavar="TIME", help="Only sessions without activity for this long: 12h, 30d."),
]


@remote
def create(
    front: Remote,
    class_name: Annotated[str, typer.Option("--class", help="The SessionClass of its pod.")] = "default",
    name: Annotated[str | None, typer.Option(help="A name to display.")] = None,
    as_json: AsJson = False,
) -> None:
    """Create a session and print its id.

    It belongs to --user, by default your login name.
    """
    from session_manager.cli.failures import QUOTA_EXCEEDED  # noqa: PLC0415
    from session_manager.client import ClientError  # noqa: PLC0415

    with front.client() as client:
        try:
            made = client.create(front.user or _login_name(), class_name, name)
        except ClientError as error:
            if error.status != 403 or error.type == QUOTA_EXCEEDED or front.user:
                raise
            raise ClientError(f"{error.detail}; {YOUR_USER}", 403) from None
    show.result(made, made["uuid"], as_json=as_json)


def _login_name() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # in a container, a user often has no name
        raise typer.BadParameter("this user has no login name; say whose session it is with --user") from None


@remote
def list_sessions(
    front: Remote,
    status: StatusFilter = None,
    limit: Annotated[int, typer.Option(min=1, max=500, help="Number of sessions at most.")] = 50,
    everything: Annotated[bool, typer.Option("--all", help="List all sessions.")] = False,
    as_json: AsJson = False,
) -> None:
    """List sessions, newest first.

    Expired sessions are listed only with --status expired.
    """
    with front.client() as client:
        if everything:
            rows = list(client.list(status=status))
            answer: dict[str, Any] = {"total": len(rows), "sessions": rows, "next_cursor": None}
        else:
            answer = client.page(status=status, limit=limit)
    if as_json:
        show.as_json(answer)
    else:
        show.sessions(answer["sessions"], answer["total"])


@remote
def status(
    front: Remote,
    session: SessionId,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Keep running and print every change.")] = False,
    as_json: AsJson = False,
) -> None:
    """Show a session: its status, reason and queue."""
    with front.client() as client:
        if follow:
            _follow_status(client, session, as_json=as_json)
            return
        found = client.get(session)
    (show.as_json if as_json else show.session)(found)


def _follow_status(client: Client, session: str, *, as_json: bool) -> None:
    shown: tuple[Any, ...] = ()
    for found in _states(client, session):
        state = (found["status"], found["phase"], found["reason"], found["queue_length"])
        if state != shown:
            shown = state
            waiting = f", {found['queue_length']} waiting" if found["queue_length"] else ""
            line = f"{time.strftime('%H:%M:%S')}  {found['status']:<9}  {show.plain(found['reason'])}{waiting}"
            show.result(found, line, as_json=as_json)


def _states(client: Client, session: str) -> Iterator[dict[str, Any]]:
    """Yield the session after every event and every few seconds, until it is deleted."""
    from session_manager.client import ClientError  # noqa: PLC0415

    yield client.get(session)
    try:
        while True:
            refreshed = 0.0
            for event in client.events(session):
                # The feed begins with all earlier events. Changes that are skipped here show at the next keep-alive.
                if event is None or time.monotonic() - refreshed > REFRESH:
                    refreshed = time.monotonic()
                    yield client.get(session)
            time.sleep(REFRESH)  # this front door has stopped; another one may answer
    except ClientError as error:
        if error.status != 404:
            raise
        show.remark("The session is deleted.")


@remote
def wake(
    front: Remote,
    session: SessionId,
    keep_awake: Annotated[
        float,
        typer.Option(parser=duration, metavar="TIME", help="Stay awake at least this long: 90s, 15m, up to 1h."),
    ] = "0",  # type: ignore[assignment]
    as_json: AsJson = False,
) -> None:
    """Start the pod without a message.

    This revives an expired session and retries a failed start.
    """
    with front.client() as client:
        answer = client.wake(session, keep_awake)
    show.result(answer, f"{answer['status']}: {answer['message']}", as_json=as_json)


@remote
def sleep(
    front: Remote,
    session: SessionId,
    when_idle: Annotated[bool, typer.Option("--when-idle", help="Wait until no message runs or waits.")] = False,
    as_json: AsJson = False,
) -> None:
    """Stop the pod now.

    This fails while a message runs or waits, unless --when-idle is given.
    """
    with front.client() as client:
        answer = client.sleep(session, when_idle=when_idle)
    show.result(answer, f"{answer['status']}: {answer['message']}", as_json=as_json)


@remote
def delete(
    front: Remote,
    ids: Annotated[list[str] | None, typer.Argument(metavar="ID...", help="Session ids.", show_default=False)] = None,
    status: StatusFilter = None,
    older_than: Age = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only show what would be deleted.")] = False,
    as_json: AsJson = False,
) -> None:
    """Delete sessions permanently, with their messages and files.

    Name the sessions, or select them with --status and --older-than.
    """
    by_filter = status is not None or older_than is not None
    if bool(ids) == by_filter:
        raise typer.BadParameter("give either ids, or --status or --older-than")
    with front.client() as client:
        targets = ids or [row["uuid"] for row in _selected(client, status, older_than)]
        for session in targets:
            answer = {"uuid": session, "status": "would be deleted"} if dry_run else client.delete(session)
            show.result(answer, f"{session} {answer['status']}", as_json=as_json)
    if by_filter and not as_json:
        show.remark(f"{len(targets)} sessions {'would be ' if dry_run else ''}deleted")


def _selected(client: Client, status: str | None, older_than: float | None) -> list[dict[str, Any]]:
    rows = client.list(status=status)
    if older_than is None:
        return list(rows)
    now = datetime.now(UTC)
    return [row for row in rows if (now - datetime.fromisoformat(row["last_activity"])).total_seconds() > older_than]


@remote
def logs(
    front: Remote,
    session: SessionId,
    tail: Annotated[int, typer.Option(min=1, max=FOLLOW_WINDOW, help="Number of lines.")] = 200,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Keep running and print new lines.")] = False,
) -> None:
    """Show the output of the session's pods."""
    with front.client() as client:
        lines = _lines(client.logs(session, FOLLOW_WINDOW if follow else tail))
        _print_lines(lines[-tail:])
        if not lines:
            show.remark("Its pods have printed nothing yet.")
        while follow:
            time.sleep(FOLLOW_PAUSE)
            current = _lines(client.logs(session, FOLLOW_WINDOW))
            _print_lines(new_lines(lines, current))
            lines = current


def _lines(text: str) -> list[str]:
    """Return the lines that the server joined. ``str.splitlines`` would also split at characters within them."""
    return text.split("\n") if text else []


def _print_lines(lines: list[str]) -> None:
    for line in lines:
        print(show.plain(line), flush=True)


def new_lines(before: list[str], after: list[str]) -> list[str]:
    """Return the lines that were added since ``before``. Both are the last lines of one growing text."""
    for skipped in range(len(before)):
        kept = before[skipped:]
        if after[: len(kept)] == kept:
            return after[len(kept) :]
    return after
