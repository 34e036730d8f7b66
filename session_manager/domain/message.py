"""Messages: what was accepted, how often it was given to a pod, how it ended.

What every turn makes is a named tuple: a frozen dataclass of so many fields takes four times as long to make.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple

from session_manager.domain.session import Session
from session_manager.domain.times import Micros

MAX_MESSAGE_BYTES = 1024 * 1024
MAX_DEATHS = 3


class MessageStatus(StrEnum):
    QUEUED = "queued"
    RUNNING = "running"
    PROCESSED = "processed"
    FAILED = "failed"


class Message(NamedTuple):
    """One row of ``message``. ``response``: the pod's JSON object as text. ``finished_at``: None while unfinished.

    ``payload``: what ADK's ``/run`` was given beside the text, as JSON text; None for a message from our own door.
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


class NewMessage(NamedTuple):
    """What is to be accepted. ``body_hash``: compared when ``idempotency_key`` repeats. ``payload``: see Message."""

    id: str
    session: str
    text: str
    caller: str
    idempotency_key: str | None = None
    body_hash: str | None = None
    payload: str | None = None


class Accepted(NamedTuple):
    """The accept commit's answer. ``repeated``: the Idempotency-Key was known and nothing was written.

    ``lowest_unfinished`` is the lowest seq of the session that has no result, this message's own included.
    """

    message: Message
    session: Session
    lowest_unfinished: int
    repeated: bool = False


class Outcome(NamedTuple):
    """How a turn ended: exactly one of ``response`` (JSON text) and ``error`` is set."""

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
    """One numbered event of a session; ``number`` is the SSE id. ``data`` is JSON text."""

    number: int
    kind: str
    message_id: str | None
    data: str
    created_at: Micros


@dataclass(frozen=True, slots=True)
class Unfinished:
    """A message without a result, as the repair reads it."""

    id: str
    session: str
    seq: int
    class_name: str
    accepted_at: Micros
