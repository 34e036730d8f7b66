"""What the turn of a pod that speaks ADK leaves in its session: its own events, and what it did not tell."""

from __future__ import annotations

import time

from session_manager.domain.adk.model import AdkTurn
from session_manager.domain.adk.turn import failure_event, invocation_of, user_event
from session_manager.domain.message import Message, Outcome
from session_manager.podclient.protocol import AdkExchange


def turn_events(message: Message, app: str, outcome: Outcome, began: float, exchange: AdkExchange) -> AdkTurn:
    """``app`` is who answers. ``began``: when the turn did, Unix seconds."""
    events = tuple(exchange.events)
    invocation_id = events[0].invocation_id if events else invocation_of(message)
    if outcome.error is not None:
        events = (*events, failure_event(message, app, outcome.error, invocation_id, time.time()))
    return AdkTurn(None if exchange.kept else user_event(message, invocation_id, began), events)
