"""The port to a pod's own interface: one message in, one reply out, deltas in between."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

from session_manager.domain.adk.model import AdkEvent, AdkKey
from session_manager.domain.adk.pod_events import NO_RIGHTS, TurnRights
from session_manager.domain.session_class import SessionClass
from session_manager.podclient.connection import PodConnection
from session_manager.runtime.protocol import PodAddress
from session_manager.tracing.context import Trace


@dataclass(slots=True)
class AdkExchange:
    """The ADK part of a turn. ``payload``: the rest of the request to ``/run``, as JSON text.

    Filled while the pod works, so that however the turn ends it is known how far the pod came. ``events``: the complete
    events that the pod has sent. ``kept``: the pod adds them to its session here by itself. ``rights``: what these
    events may say.
    """

    key: AdkKey
    payload: str | None = None
    events: list[AdkEvent] = field(default_factory=list)
    kept: bool = False
    rights: TurnRights = NO_RIGHTS


class TurnRequest(NamedTuple):
    """One attempt of one message. ``token`` is the X-Session-Token. ``adk`` is set for pods that speak ADK.

    ``trace`` is the trace context to pass on, or None.

    A pod gets ``{message, message_id, session_id, user_id}`` and X-Session-Id, X-Message-Id, X-Attempt.
    """

    session: str
    user_id: str
    message_id: str
    attempt: int
    text: str
    token: str = ""
    adk: AdkExchange | None = None
    trace: Trace | None = None

    def __repr__(self) -> str:
        return f"TurnRequest({self.session}, {self.message_id}, {self.attempt})"


DeltaListener = Callable[[str], Awaitable[None]]
OpenExchange = Callable[..., AbstractAsyncContextManager[PodConnection]]  # (target, body, skim=False)


class PodClient(Protocol):
    async def close(self) -> None: ...

    async def chat(
        self, address: PodAddress, session_class: SessionClass, request: TurnRequest, on_delta: DeltaListener
    ) -> str:
        """Deliver one message and return the pod's reply: a JSON object as text, its own or ``{"reply": …}``.

        The caller owns the time limit of the turn.

        ``on_delta`` gets each delta of a stream as JSON text. PodUnreachable: certainly not delivered. PodDied: may
        have been delivered. PodBusy: 503. PodMisdirected: 421. PodRejected: any other answer that is not a reply.
        """
        ...

    def drop(self, uid: str) -> None:
        """The pod with this uid is gone: end the exchange with it by PodDied.

        The network may never report it: when a pod goes together with its address, nothing closes the connection.
        """
        ...
