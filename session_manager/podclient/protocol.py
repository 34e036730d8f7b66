"""The port to a pod's own interface: one message in, one outcome out, deltas on the way."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

from session_manager.domain.adk.model import AdkEvent, AdkKey
from session_manager.domain.session_class import SessionClass
from session_manager.runtime.protocol import Address


@dataclass(slots=True)
class AdkExchange:
    """What a turn has besides for a pod that speaks ADK. ``payload``: what ``/run`` was given beside the text.

    Filled while the pod works, so that it can be told how far it came however the turn ends. ``events``: the complete
    events that the pod has sent. ``kept``: it has added them to its session here by itself.
    """

    key: AdkKey
    payload: str | None = None
    events: list[AdkEvent] = field(default_factory=list)
    kept: bool = False


class TurnRequest(NamedTuple):
    """What a pod is told: ``{message, message_id, session_id, user_id}`` and X-Session-Id, X-Message-Id, X-Attempt.

    ``token`` is its X-Session-Token. ``adk`` is there for pods of that protocol.
    """

    session: str
    user_id: str
    message_id: str
    attempt: int
    text: str
    token: str = ""
    adk: AdkExchange | None = None


@dataclass(frozen=True, slots=True)
class TurnReply:
    """``response``: a JSON object as text, the pod's own or ``{"reply": …}``. ``events``: (kind, JSON text)."""

    response: str
    events: list[tuple[str, str]] = field(default_factory=list)


DeltaListener = Callable[[str], Awaitable[None]]


class PodClient(Protocol):
    async def start(self) -> None: ...
    async def close(self) -> None: ...

    async def chat(
        self, address: Address, session_class: SessionClass, request: TurnRequest, on_delta: DeltaListener
    ) -> TurnReply:
        """Deliver one message and return the pod's reply. The caller owns the time limit of the turn.

        ``on_delta`` gets each streamed piece as JSON text. PodUnreachable: certainly not delivered. PodDied: perhaps
        delivered. PodBusy: 503. PodMisdirected: 421. PodRejected: anything else that is no answer.
        """
        ...

    def drop(self, uid: str) -> None:
        """The pod with this uid is gone: who waits for its answer gets PodDied now.

        The network may never say so: where a pod went with its address, nobody is left to close the connection.
        """
        ...
