"""Commands about messages: talk to an agent, look at what was said, take a message back."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any

import typer

from session_manager.cli import show
from session_manager.cli.failures import ExitCode, explain
from session_manager.cli.remote import AsJson, Remote, SessionId, remote

if TYPE_CHECKING:
    from rich.status import Status

    from session_manager.client import Client

PROMPT = "> "
MessageId = Annotated[str, typer.Argument(metavar="MESSAGE_ID", help="The id of the message.", show_default=False)]


@remote
def chat(
    front: Remote,
    session: SessionId,
    message: Annotated[str | None, typer.Argument(help="The message; without it, a conversation.")] = None,
    as_json: AsJson = False,
) -> None:
    """Talk to the agent of a session.

    This wakes the session. Ctrl-C stops waiting; the agent continues.
    Without MESSAGE, every line of input is a message.
    """
    with front.client() as client:
        say = partial(_say, client, session, as_json=as_json)
        if message is not None:
            code = say(message)
        else:
            client.get(session)
            code = _converse(say) if sys.stdin.isatty() else _recite(say)
    raise typer.Exit(code)


def _recite(say: Callable[[str], ExitCode]) -> ExitCode:
    """Send every line of a file or a pipe, until one fails."""
    for line in sys.stdin:
        if line.strip() and (code := say(show.typed(line.rstrip("\n")))) is not ExitCode.OK:
            return code
    return ExitCode.OK


def _converse(say: Callable[[str], ExitCode]) -> ExitCode:
    """Send what a person types. After an error the conversation continues."""
    import readline  # noqa: F401, PLC0415  line editing for input()

    from session_manager.client import ClientError  # noqa: PLC0415

    show.remark("Ctrl-D or /quit ends the conversation. The session is kept.")
    while True:
        try:
            text = show.typed(input(PROMPT))
        except (EOFError, KeyboardInterrupt):
            show.remark("")
            return ExitCode.OK
        if text.strip() == "/quit":
            return ExitCode.OK
        try:
            if text.strip():
                say(text)
        except ClientError as error:
            failure = explain(error)
            if failure is None or failure.exit_code is ExitCode.NOT_FOUND:
                raise
            show.remark(f"Error: {failure.line}")


def _say(client: Client, session: str, text: str, *, as_json: bool) -> ExitCode:
    """Send a message and print its result."""
    from session_manager.client import ClientError  # noqa: PLC0415

    turn = _Turn(client, session, live=not as_json)
    try:
        ended = turn.follow(text)
    except KeyboardInterrupt:
        kept = "your message stays queued" if turn.reason else "the agent continues with your message"
        show.remark(f"\nStopped waiting; {kept}.")
        show.remark(f"To see the result: session-manager messages {session}")
        if turn.message_id:
            show.remark(f"To cancel it: session-manager cancel {session} {turn.message_id}")
        return ExitCode.INTERRUPTED
    except ClientError:
        if turn.message_id:
            show.remark(f"Your message is kept. To see the result later: session-manager messages {session}")
        raise
    if as_json:
        show.as_json(ended)
    elif ended["status"] == "processed":
        turn.finish(show.reply(ended["pod_response"]))
    else:
        show.remark(f"The agent failed: {show.plain(ended['error'])}")
    return ExitCode.OK if ended["status"] == "processed" else ExitCode.FAILED


@dataclass(slots=True, eq=False)
class _Turn:
    """One message: a spinner while it waits, the pieces of the reply as they arrive if ``live``, then the result."""

    client: Client
    session: str
    live: bool
    written: str = ""
    reason: str = ""  # why its pod does not start, as it was printed
    next_try: str = ""
    message_id: str = ""

    def follow(self, text: str) -> dict[str, Any]:
        """Send the message, wait until its turn has ended, and return the last event."""
        ended: dict[str, Any] = {}
        with show.spinner("sending") as status:
            for event in self.client.stream(self.session, text):
                if event is None:
                    self._show_state(status)
                    continue
                self.message_id = event.data.get("message_id", self.message_id)
                if event.kind in ("turn.queued", "session.failed"):
                    self._show_state(status)
                elif event.kind == "turn.running" and status:
                    status.update("the agent is working")
                elif event.kind == "turn.restarted":
                    self._restart()
                elif event.kind == "delta":
                    self._piece(status, event.data.get("data"))
                ended = event.data
        return ended

    def finish(self, reply: str) -> None:
        """Print the rest of the reply."""
        if self.written and not reply.startswith(self.written):
            show.write("\n")
            self.written = ""
        show.write(reply[len(self.written) :] + "\n")

    def _show_state(self, status: Status | None) -> None:
        """Show what the message waits for, and print, also without a terminal, that its pod does not start."""
        if self.written:
            return
        found = self.client.get(self.session)
        if found["status"] == "failed":
            self._tell_failure(found)
        if status is None:
            return
        waiting = f" ({found['queue_length']} messages)" if found["queue_length"] > 1 else ""
        status.update(show.text(f"{found['status']}: {found['phase']}{waiting}"))

    def _tell_failure(self, found: dict[str, Any]) -> None:
        """Print each reason once, and the time of each next try."""
        first = not self.reason
        if found["reason"] != self.reason:
            self.reason = found["reason"]
            show.remark(f"The pod did not start and is retried. {show.plain(self.reason)}")
        next_try = (found["failure"] or {}).get("next_try", "")
        if next_try and next_try != self.next_try:
            self.next_try = next_try
            waits = " Still waiting; Ctrl-C leaves your message queued." if first else ""
            show.remark(f"Next try at {datetime.fromisoformat(next_try).astimezone():%H:%M:%S}.{waits}")

    def _restart(self) -> None:
        """Another pod begins the turn again, because the first one was lost."""
        if self.written:
            show.write("\n")
            show.remark("(the agent restarts)")
        self.written = ""

    def _piece(self, status: Status | None, data: Any) -> None:
        piece = data.get("text") if isinstance(data, dict) else data
        if not self.live or not isinstance(piece, str) or not piece:
            return
        if status is not None:
            status.stop()
        show.write(piece)
        self.written += piece


@remote
def messages(front: Remote, session: SessionId, as_json: AsJson = False) -> None:
    """Show the messages and results of a session, oldest first."""
    with front.client() as client:
        rows = list(client.messages(session))
    if as_json:
        show.as_json({"messages": rows})
    else:
        show.messages(rows)


@remote
def cancel(front: Remote, session: SessionId, message_id: MessageId, as_json: AsJson = False) -> None:
    """Cancel a message that has no result yet."""
    with front.client() as client:
        answer = client.cancel(session, message_id)
    show.result(answer, f"{answer['status']}: {answer['error']}", as_json=as_json)
