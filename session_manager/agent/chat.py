"""``POST /chat``: call the agent's function with a request, and send its reply.

The function may be plain, async, a generator or an async generator.
"""

from __future__ import annotations

import json
import sys
import threading
import traceback
from types import AsyncGeneratorType, CoroutineType, GeneratorType

from session_manager.agent.wire import BadRequest, HttpConnection, PeerGone, Request

TYPE_CHECKING = False
if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable, Coroutine, Iterator
    from typing import Any

    Agent = Callable[[str, "Context"], Any]
    OnPiece = Callable[[object], None]


TRACE = ["traceparent", "tracestate"]


class Context:
    """``attempt`` is more than 1 if an earlier pod received the message. ``home`` is the folder in HOME.

    ``token`` allows reading this session and appending to it while the turn runs. Send it as ``X-Session-Token``.
    ``trace`` has the headers ``traceparent`` and ``tracestate`` of the turn, if it is traced; pass them on.
    """

    __slots__ = ("attempt", "home", "message_id", "session_id", "token", "trace", "user_id")

    def __init__(
        self,
        session_id: str,
        message_id: str,
        user_id: str,
        attempt: int,
        home: str,
        token: str = "",
        trace: dict[str, str] | None = None,
    ) -> None:
        self.session_id = session_id
        self.message_id = message_id
        self.user_id = user_id
        self.attempt = attempt
        self.home = home
        self.token = token
        self.trace = trace or {}


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
        trace = {name: headers[name] for name in TRACE if name in headers}
        return message, Context(session_id, message_id, user_id, attempt, self._home, token, trace)


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


class Turns:
    """Runs one turn at a time, however many connections there are."""

    def __init__(self, agent: Agent) -> None:
        self._agent = agent
        self._one_at_a_time = threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None

    def run(self, message: str, context: Context, on_piece: OnPiece) -> dict[str, object]:
        """Return the reply as a JSON object. ``on_piece`` receives each piece that a generator yields."""
        with self._one_at_a_time:
            result = self._agent(message, context)
            if isinstance(result, CoroutineType):
                result = self._wait(result)
            if isinstance(result, AsyncGeneratorType):
                result = self._in_step(result)
            if isinstance(result, GeneratorType):
                result = _collect(result, on_piece)
            return result if isinstance(result, dict) else {"reply": result}

    def _wait(self, coroutine: Coroutine[Any, Any, Any]) -> Any:
        import asyncio  # noqa: PLC0415 - most agents never need it, and it doubles the time to start

        if self._loop is None:
            # One loop for the whole life of the pod, so that an agent can keep connections from turn to turn.
            self._loop = asyncio.new_event_loop()
            threading.Thread(target=self._loop.run_forever, daemon=True).start()
        return asyncio.run_coroutine_threadsafe(_not_exiting(coroutine), self._loop).result()

    def _in_step(self, pieces: AsyncGeneratorType[Any, Any]) -> Iterator[object]:
        """Turn an async generator into a plain one."""

        async def step() -> tuple[object, ...]:
            try:
                return (await anext(pieces),)
            except StopAsyncIteration:
                return ()

        async def close() -> None:
            await pieces.aclose()

        try:
            while piece := self._wait(step()):
                yield piece[0]
        finally:
            self._wait(close())


async def _not_exiting(coroutine: Coroutine[Any, Any, Any]) -> Any:
    try:
        return await coroutine
    except SystemExit as error:  # it would end the loop, and every later turn would hang
        raise RuntimeError(f"SystemExit: {error}") from error


def _collect(pieces: GeneratorType[object, None, object], on_piece: OnPiece) -> object:
    """Return what the generator returns, or the texts that it yielded if it returns nothing."""
    texts = []
    try:
        while True:
            piece = next(pieces)
            on_piece(piece)
            texts.append(piece if isinstance(piece, str) else _text(piece))
    except StopIteration as stop:
        return "".join(texts) if stop.value is None else stop.value
    finally:
        pieces.close()


def _text(piece: object) -> str:
    text = piece.get("text") if isinstance(piece, dict) else None
    return text if isinstance(text, str) else ""
