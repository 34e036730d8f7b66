"""Commands about sessions as a whole."""

from __future__ import annotations

import getpass
import time
from collections import deque
from collections.abc import Iterator
from datetime import UTC, datetime
from itertools import islice
from typing import TYPE_CHECKING, Annotated, Any

import typer

from session_manager.cli import show
from session_manager.cli.durations import duration
from session_manager.cli.remote import AsJson, Remote, SessionId, remote

if TYPE_CHECKING:
    from session_manager.client import Client

LOOK_AGAIN = 0.1  # seconds

FOLLOW_PAUSE = 1.0
FOLLOW_WINDOW = 10_000  # lines; the most that the front door gives

StatusFilter = Annotated[str | None, typer.Option("--status", help="Only sessions of this status.")]
Age = Annotated[
    float | None,
    typer.Option(parser=duration, metavar="TIME", help="Only those without activity for so long: 12h, 30d."),
]


@remote
def create(
    front: Remote,
    class_name: Annotated[str, typer.Option("--class", help="SessionClass of its pod.")] = "default",
    name: Annotated[str | None, typer.Option(help="A name for people.")] = None,
    as_json: AsJson = False,
) -> None:
    """Make a session and print its id.

    It belongs to --user, or else to your login name.
    """
    with front.client() as client:
        made = client.create(front.user or getpass.getuser(), class_name, name)
    if as_json:
        show.as_json(made)
        return
    print(made["uuid"])


@remote
def list_sessions(
    front: Remote,
    status: StatusFilter = None,
    limit: Annotated[int, typer.Option(min=1, max=500, help="Rows at most.")] = 50,
    everything: Annotated[bool, typer.Option("--all", help="All rows.")] = False,
    as_json: AsJson = False,
) -> None:
    """List sessions, newest first.

    Expired ones only with --status expired.
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
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on and print every change.")] = False,
    as_json: AsJson = False,
) -> None:
    """Show a session: status, reason, queue."""
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
            if as_json:
                show.as_json(found)
            else:
                waiting = f", {found['queue_length']} waiting" if found["queue_length"] else ""
                line = f"{time.strftime('%H:%M:%S')}  {found['status']:<9}  {show.plain(found['reason'])}{waiting}"
                print(line, flush=True)


def _states(client: Client, session: str) -> Iterator[dict[str, Any]]:
    """The session whenever something happened, and every few seconds; ends when it is deleted."""
    from session_manager.client import ClientError  # noqa: PLC0415

    yield client.get(session)
    try:
        while True:
            looked = 0.0
            for event in client.events(session):
                # The feed begins with all that ever happened. What is skipped is seen at the next sign of life.
                if event is None or time.monotonic() - looked > LOOK_AGAIN:
                    looked = time.monotonic()
                    yield client.get(session)
            time.sleep(LOOK_AGAIN)  # this front door stops; is there another one?
    except ClientError as error:
        if error.status != 404:
            raise
        show.remark("The session is deleted.")


@remote
def wake(
    front: Remote,
    session: SessionId,
    keep_awake: Annotated[
        float, typer.Option(parser=duration, metavar="TIME", help="Stay awake at least so long: 90s, 15m, 1h at most.")
    ] = "0",  # type: ignore[assignment]
    as_json: AsJson = False,
) -> None:
    """Start the pod without a message.

    Revives an expired session, and tries a failed start again.
    """
    with front.client() as client:
        _acted(client.wake(session, keep_awake), as_json=as_json)


@remote
def sleep(
    front: Remote,
    session: SessionId,
    when_idle: Annotated[bool, typer.Option("--when-idle", help="As soon as nothing runs or waits.")] = False,
    as_json: AsJson = False,
) -> None:
    """Stop the pod now.

    Refused while a turn runs or waits, unless --when-idle.
    """
    with front.client() as client:
        _acted(client.sleep(session, when_idle=when_idle), as_json=as_json)


def _acted(answer: dict[str, Any], *, as_json: bool) -> None:
    if as_json:
        show.as_json(answer)
    else:
        print(f"{answer['status']}: {answer['message']}")


@remote
def delete(
    front: Remote,
    ids: Annotated[list[str] | None, typer.Argument(metavar="ID...", help="The uuids.", show_default=False)] = None,
    status: StatusFilter = None,
    older_than: Age = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would be deleted.")] = False,
    as_json: AsJson = False,
) -> None:
    """Delete sessions for good, with messages and files.

    Those named, or all that --status and --older-than choose.
    """
    chosen = status is not None or older_than is not None
    if bool(ids) == chosen:
        raise typer.BadParameter("name the sessions, or choose them by --status or --older-than")
    with front.client() as client:
        targets = ids or [row["uuid"] for row in _chosen(client, status, older_than)]
        for session in targets:
            answer = {"uuid": session, "status": "would be deleted"} if dry_run else client.delete(session)
            if as_json:
                show.as_json(answer)
            else:
                print(f"{session} {answer['status']}")
    if chosen and not as_json:
        show.remark(f"{len(targets)} sessions {'would be ' if dry_run else ''}deleted")


def _chosen(client: Client, status: str | None, older_than: float | None) -> list[dict[str, Any]]:
    rows = client.list(status=status)
    if older_than is None:
        return list(rows)
    now = datetime.now(UTC)
    return [row for row in rows if (now - datetime.fromisoformat(row["last_activity"])).total_seconds() > older_than]


@remote
def logs(
    front: Remote,
    session: SessionId,
    tail: Annotated[int, typer.Option(min=1, max=FOLLOW_WINDOW, help="How many lines.")] = 200,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on and print new lines.")] = False,
) -> None:
    """Show what the session's pods printed."""
    with front.client() as client:
        lines = client.logs(session, FOLLOW_WINDOW if follow else tail).splitlines()
        _print_lines(lines[-tail:])
        if not lines:
            show.remark("Its pods printed nothing so far.")
        while follow:
            time.sleep(FOLLOW_PAUSE)
            present = client.logs(session, FOLLOW_WINDOW).splitlines()
            _print_lines(new_lines(lines, present))
            lines = present


def _print_lines(lines: list[str]) -> None:
    for line in lines:
        print(show.plain(line), flush=True)


def new_lines(before: list[str], after: list[str]) -> list[str]:
    """What ``after`` has that ``before`` had not, both being the last lines of one growing text."""
    if after[: len(before)] == before:
        return after[len(before) :]
    old = deque(before)
    while old and list(islice(after, len(old))) != list(old):
        old.popleft()
    return after[len(old) :]
