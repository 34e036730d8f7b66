"""``POST /chat``: call the agent's function with a request, and send its reply."""

from __future__ import annotations

import json
import sys
import traceback

from session_manager.agent.turns import Context, Turns
from session_manager.agent.wire import BadRequest, HttpConnection, PeerGone, Request

TYPE_CHECKING = False
if TYPE_CHECKING:
    from session_manager.agent.turns import Agent


class Chat:
    """Serves one session: ``session_id``, or the first that it sees if this is None."""

    def __init__(self, agent: Agent, session_id: str | None, home: str) -> None:
        self._turns = Turns(agent)
        self._session_id = session_id
        self._home = home

    def answer(self, connection: HttpConnection, request: Request) -> None:
        """Run one turn and send its result. Raises BadRequest and PeerGone."""
        message, context = self._parse(request)
        answer = _Answer(connection, request)
        try:
            answer.end("reply", 200, self._turns.run(message, context, answer.piece))
        except PeerGone:
            raise
        except (Exception, SystemExit) as error:  # sys.exit() would end this thread silently
            traceback.print_exc(file=sys.stderr)
            answer.end("error", 500, {"error": f"{type(error).__name__}: {error}"})

    def _parse(self, request: Request) -> tuple[str, Context]:
        headers = request.headers
        try:
            body = json.loads(request.body)
            message = body["message"]
            attempt = int(headers.get("x-attempt", 1))
        except (ValueError, KeyError, TypeError, RecursionError):
            raise BadRequest(400, 'POST a JSON object {"message": …}') from None
        if not isinstance(message, str):
            raise BadRequest(400, "invalid message; expected a string")
        session_id = headers.get("x-session-id", "")
        if session_id:
            self._session_id = self._session_id or session_id
            if session_id != self._session_id:
                raise BadRequest(421, "this pod belongs to another session")
        message_id = headers.get("x-message-id", "")
        user_id, token = str(body.get("user_id") or ""), headers.get("x-session-token", "")
        return message, Context(session_id, message_id, user_id, attempt, self._home, token)


class _Answer:
    """Plain JSON, or a stream of events if the agent yields a piece and the caller accepts a stream."""

    def __init__(self, connection: HttpConnection, request: Request) -> None:
        self._connection = connection
        self._keep_alive = request.keep_alive
        self._may_stream = "text/event-stream" in request.headers.get("accept", "")
        self._streams = False

    def piece(self, piece: object) -> None:
        if not self._may_stream:
            return
        if not self._streams:
            self._connection.start_stream()
            self._streams = True
        self._connection.send_event("delta", {"text": piece} if isinstance(piece, str) else piece)

    def end(self, event: str, status: int, value: dict[str, object]) -> None:
        """Send the last event of the stream, or the only answer with this status."""
        if self._streams:
            self._connection.send_event(event, value, last=True)
        else:
            self._connection.answer(status, value, self._keep_alive)
