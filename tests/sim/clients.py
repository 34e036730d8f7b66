"""Clients: the requests that they sent, and the answers that they got."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any

from session_manager.domain.access import EVERYTHING
from session_manager.domain.errors import NotFound, SessionManagerError, Unavailable
from session_manager.domain.message import NewMessage, Outcome
from tests.sim.processes import ANSWER_WITHIN, FrontDoor, Surroundings


@dataclass(eq=False, slots=True)
class Call:
    """One request of a client. ``began`` and ``answered`` count the events of the world, for "before" and "after"."""

    what: str
    session: str
    door: FrontDoor
    began: int
    too_late: bool  # the session was deleted before the call
    task: asyncio.Task[None]
    answered: int | None = None
    message_id: str | None = None
    key: str | None = None
    outcome: Outcome | None = None
    error: SessionManagerError | None = None
    result: Any = None


class Clients:
    """``deleted(session)``: whether SQL says so at this instant."""

    def __init__(self, around: Surroundings, deleted: Callable[[str], bool]) -> None:
        self._around = around
        self._deleted = deleted
        self._events = 0
        self._messages = 0
        self.calls: list[Call] = []
        self.cancelled: set[str] = set()

    def send(self, door: FrontDoor, session: str, text: str, key: str | None = None, wait: float | None = None) -> Call:
        self._messages += 1
        new = NewMessage(f"m{self._messages}", session, text, "client", key, text if key is not None else None)

        async def send() -> None:
            ticket = await door.turns.submit(new, EVERYTHING)
            call.message_id = ticket.message.id
            call.outcome = await door.turns.outcome(ticket, ANSWER_WITHIN, wait)
            if call.outcome is None:
                call.result = (await door.turns.progress(ticket.message)).status

        call = self.call("send", door, session, send)
        call.key = key
        return call

    def cancel(self, door: FrontDoor, session: str, message_id: str) -> Call:
        self.cancelled.add(message_id)
        return self.call("cancel", door, session, lambda: door.turns.cancel(session, message_id, EVERYTHING))

    def wake(self, door: FrontDoor, session: str, keep_awake: float) -> Call:
        return self.call("wake", door, session, lambda: door.lifecycle.wake(session, EVERYTHING, keep_awake))

    def sleep(self, door: FrontDoor, session: str, *, when_idle: bool) -> Call:
        return self.call("sleep", door, session, lambda: door.lifecycle.sleep(session, EVERYTHING, when_idle=when_idle))

    def delete(self, door: FrontDoor, session: str) -> Call:
        return self.call("delete", door, session, lambda: door.lifecycle.delete(session, EVERYTHING))

    def call(self, what: str, door: FrontDoor, session: str, make: Callable[[], Coroutine[Any, Any, Any]]) -> Call:
        self._events += 1
        task = self._around.loop.create_task(self._run(make), name=f"client {len(self.calls)} {what}")
        call = Call(what, session, door, self._events, self._deleted(session), task)
        self.calls.append(call)
        return call

    async def _run(self, make: Callable[[], Coroutine[Any, Any, Any]]) -> None:
        await asyncio.sleep(0)
        call = next(each for each in self.calls if each.task is asyncio.current_task())
        try:
            result = await make()
        except SessionManagerError as error:
            call.error = error
        except Exception as error:
            self._around.failures.append(f"{call.what} of {call.session}: {error!r}")
            return
        else:
            call.result = result if result is not None else call.result
        self._events += 1
        call.answered = self._events
        if call.too_late and not isinstance(call.error, NotFound | Unavailable):
            self._around.failures.append(f"{call.what} of the deleted {call.session} was not refused")
