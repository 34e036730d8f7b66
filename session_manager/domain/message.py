"""Messages: their text, their attempts and their result.

Objects that each turn creates are named tuples: a frozen dataclass with this many fields takes four times as long.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple, Self

from session_manager.domain.errors import InvalidInput
from session_manager.domain.session import Session
from session_manager.domain.times import Micros

MAX_MESSAGE_BYTES = 1024 * 1024
MAX_DEATHS = 3
_PLACE = re.compile("([0-9]{1,18})(?:-([0-9a-f]{1,16}))?")


class MessageStatus(StrEnum):
    QUEUED = "queued"
    RUNNING = "running"
    PROCESSED = "processed"
    FAILED = "failed"


class Message(NamedTuple):
    """One row of ``message``. ``response`` is the pod's JSON object as text. ``finished_at`` is None while unfinished.

    ``payload`` is the body of ADK's ``/run`` as JSON text, or None for a message from our own API. ``trace`` is the
    trace context of its request, or None.
    """

    id: str
    session: str
    seq: int
    text: str
    accepted_at: Micros
    attempt: int
    deaths: int
    finished_at: Micros | None = None
    status: MessageStatus | None = None
    response: str | None = None
    error: str | None = None
    caller: str = ""
    payload: str | None = None
    trace: str | None = None


class Attempt(NamedTuple):
    """One delivery of a message to a pod. The first has number 1."""

    message_id: str
    number: int


class NewMessage(NamedTuple):
    """A message to accept. ``body_hash`` is compared if ``idempotency_key`` repeats; see Message for the rest."""

    id: str
    session: str
    text: str
    caller: str
    idempotency_key: str | None = None
    body_hash: str | None = None
    payload: str | None = None
    trace: str | None = None


class Accepted(NamedTuple):
    """The result of an accept. ``repeated``: the Idempotency-Key was known, and nothing was written.

    ``lowest_unfinished`` is the lowest seq in the session without a result, including this message.
    """

    message: Message
    session: Session
    lowest_unfinished: int
    repeated: bool = False


class Outcome(NamedTuple):
    """The result of a turn: exactly one of ``response`` (JSON text) and ``error`` is set."""

    status: MessageStatus
    response: str | None = None
    error: str | None = None

    @classmethod
    def processed(cls, response: str) -> Outcome:
        return cls(MessageStatus.PROCESSED, response=response)

    @classmethod
    def failed(cls, error: str) -> Outcome:
        return cls(MessageStatus.FAILED, error=error)


class StoredEvent(NamedTuple):
    """One numbered event of a session. ``data`` is JSON text."""

    number: int
    kind: str
    message_id: str | None
    data: str
    created_at: Micros

    @property
    def place(self) -> Place:
        return Place(self.number, self.created_at)


class Place(NamedTuple):
    """A reader's place in a feed: the last event that it has seen, with its time if the reader knows it.

    After a restore, another event may have the number, with another time.
    """

    number: int = 0
    created_at: Micros | None = None

    def __str__(self) -> str:
        """Return the SSE id: ``12-64a1b2c3d4e5f``."""
        return f"{self.number}" if self.created_at is None else f"{self.number}-{self.created_at:x}"

    @classmethod
    def parse(cls, text: str) -> Self:
        """Return the place of an SSE id, or of a number alone. Raises InvalidInput."""
        match = _PLACE.fullmatch(text)
        if match is None:
            raise InvalidInput("expected the id of an event that this server sent, or its number")
        return cls(int(match[1]), Micros(int(match[2], 16)) if match[2] else None)


class Cancelled(NamedTuple):
    """A message that was ended by its caller, the event that says so, and the class of its session."""

    message: Message
    event: StoredEvent
    class_name: str


@dataclass(frozen=True, slots=True)
class Unfinished:
    """A message without a result, as the repair reads it."""

    id: str
    session: str
    seq: int
    class_name: str
    accepted_at: Micros
    user: str
