"""Calls an agent's function, which may be plain, async, a generator or an async generator, with a message's facts."""

from __future__ import annotations

import threading
from types import AsyncGeneratorType, CoroutineType, GeneratorType

TYPE_CHECKING = False
if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable, Coroutine, Iterator
    from typing import Any

    Agent = Callable[[str, "Context"], Any]
    OnPiece = Callable[[object], None]


class Context:
    """``attempt`` is more than 1 if an earlier pod received the message. ``home`` is the folder in HOME.

    ``token`` allows reading this session and appending to it while the turn runs. Send it as ``X-Session-Token``.
    """

    __slots__ = ("attempt", "home", "message_id", "session_id", "token", "user_id")

    def __init__(
        self, session_id: str, message_id: str, user_id: str, attempt: int, home: str, token: str = ""
    ) -> None:
        self.session_id = session_id
        self.message_id = message_id
        self.user_id = user_id
        self.attempt = attempt
        self.home = home
        self.token = token


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
