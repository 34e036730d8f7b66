"""Output for people. Results go to stdout, remarks and spinners to stderr, so that results can be piped."""

from __future__ import annotations

import io
import json
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, nullcontext
from typing import TYPE_CHECKING, Any

from session_manager.domain.values import Json

if TYPE_CHECKING:
    from rich.console import Console
    from rich.status import Status
    from rich.text import Text

_COLOURS = {
    "awake": "green",
    "waking": "yellow",
    "failed": "red",
    "queued": "yellow",
    "running": "yellow",
    "processed": "green",
}
_FACTS = ("name", "user_id", "class", "queue_length", "created_at", "last_activity", "expires_at")


def write_anywhere() -> None:
    """Let a terminal or pipe that is not UTF-8 get a question mark for what it cannot show, instead of an error."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")
    if isinstance(sys.stdin, io.TextIOWrapper):
        sys.stdin.reconfigure(errors="surrogateescape")


def typed(text: str) -> str:
    """Return what a person typed. Bytes that Python could not decode in this locale are read as UTF-8."""
    if text.isascii():
        return text
    return text.encode("utf-8", "surrogateescape").decode("utf-8", "replace")


def dumped(value: Any) -> str:
    """Return JSON in one line, with escapes where the output is not UTF-8, so that nothing is lost."""
    return json.dumps(value, ensure_ascii=(sys.stdout.encoding or "").lower() not in ("utf-8", "utf8"))


def as_json(value: Any) -> None:
    print(dumped(value), flush=True)


def result(value: Json, line: str, *, as_json: bool) -> None:
    """Print ``value`` as JSON, or the line for a person."""
    print(dumped(value) if as_json else line, flush=True)


def remark(line: str) -> None:
    """Print a line to stderr that is not part of the result."""
    print(line, file=sys.stderr, flush=True)


def plain(value: object) -> str:
    """Return text from elsewhere without the characters that control a terminal."""
    return "".join(letter for letter in str(value) if letter.isprintable() or letter in "\n\t")


def size(number: float) -> str:
    """Return a number of bytes in the unit that fits."""
    from rich.filesize import decimal  # noqa: PLC0415

    return decimal(int(number))


def write(piece: str) -> None:
    """Print a piece of a line."""
    print(plain(piece), end="", flush=True)


def reply(response: Json | None) -> str:
    """Return the ``reply`` of an agent, or the whole response as JSON if it has none."""
    said = (response or {}).get("reply")
    return said if isinstance(said, str) else json.dumps(response, ensure_ascii=False, indent=2)


@contextmanager
def spinner(words: str) -> Iterator[Status | None]:
    """Show a spinner on a terminal. Yields None if stderr is not a terminal."""
    screen = console(stderr=True)
    with screen.status(words) if screen.is_terminal else nullcontext() as status:
        yield status


def sessions(rows: Iterable[Json], total: int) -> None:
    table(
        ("session", "status", "user", "class", "name", "last activity"),
        (
            (row["uuid"], row["status"], row["user_id"], row["class"], row["name"] or "", row["last_activity"])
            for row in rows
        ),
        f"{total} in total",
    )


def messages(rows: Iterable[Json]) -> None:
    table(
        ("message", "status", "accepted", "text", "result"),
        (
            (row["message_id"], row["status"], row["created_at"], _short(row["message"]), _short(_result(row)))
            for row in rows
        ),
    )


def _result(row: Json) -> str:
    if row["status"] == "processed":
        return reply(row["pod_response"])
    return row["error"] or ""


def session(found: Json) -> None:
    """Print one session, a field per line."""
    from rich.table import Table  # noqa: PLC0415  slow, and not needed for --json

    table = Table.grid(padding=(0, 2))
    facts = [("session", found["uuid"]), ("status", found["status"]), ("reason", found["reason"])]
    facts += [(name.replace("_", " "), found[name]) for name in _FACTS if found[name] is not None]
    for name, value in facts:
        table.add_row(text(name, "dim"), text(value, _COLOURS.get(str(value), "")))
    console().print(table)


def table(heads: tuple[str, ...], rows: Iterable[tuple[Any, ...]], caption: str | None = None) -> None:
    from rich import box  # noqa: PLC0415
    from rich.table import Table  # noqa: PLC0415

    table = Table(box=box.SIMPLE_HEAD, caption=caption, caption_justify="left")
    for number, head in enumerate(heads):
        # The first column is an id, to be copied.
        table.add_column(head, no_wrap=number < 2, overflow="fold")
    for row in rows:
        table.add_row(*(text(cell, _COLOURS.get(str(cell), "")) for cell in row))
    console().print(table)


def text(value: object, style: str = "") -> Text:
    """Return text from elsewhere for Rich, which reads brackets in a plain string as markup."""
    from rich.text import Text  # noqa: PLC0415

    return Text(plain(value), style=style)


def _short(value: str) -> str:
    line = " ".join(value.split())
    return line if len(line) <= 60 else line[:59] + "…"


def console(*, stderr: bool = False) -> Console:
    from rich.console import Console  # noqa: PLC0415

    screen = Console(stderr=stderr)
    # A pipe has no width. Tables are cut only on a terminal.
    return screen if screen.is_terminal else Console(stderr=stderr, width=200)
