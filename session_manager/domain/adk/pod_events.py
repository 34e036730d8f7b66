"""The events that a turn's pod may write, whether it appends them with its token or reports them in its reply.

An agent speaks for itself, in its own turn, and at the time of that turn. It never speaks for the user: what the user
said is the message, which is known here.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from session_manager.domain.adk.limits import PLAIN, RESERVED
from session_manager.domain.adk.model import APP, AdkEvent
from session_manager.domain.adk.turn_events import message_id_of, user_event
from session_manager.domain.adk.wire import from_json
from session_manager.domain.errors import Forbidden
from session_manager.domain.message import Message

USER = "user"
# Of the user's event, a pod says only where ADK puts it. The rest is the message's.
PLACE = ("id", "author", "invocation_id", "timestamp", "branch", "isolation_scope", "node_info", "custom_metadata")


class TurnRights(NamedTuple):
    """The rights of a pod in a turn. ``began``: its start, in Unix seconds. ``app_state``: it may change ``app:``."""

    message_id: str = ""
    began: float = 0.0
    app_state: bool = False


NO_RIGHTS = TurnRights()


def changes_app(event: dict[str, Any]) -> bool:
    return any(key.startswith(APP) for key in event["actions"]["state_delta"])


def speaks_for_user(event: dict[str, Any]) -> bool:
    """Return True for an event by the user, unless it is one with which ADK itself keeps its books.

    Those are summaries of earlier events, and results of agents to which another one has delegated a task. An answer
    to a question that ADK asks a person is the user's.
    """
    if event.get("author") != USER:
        return False
    actions = event["actions"]
    if not event.get("content") and actions.get("compaction") and not actions["state_delta"]:
        return False
    parts = (event.get("content") or {}).get("parts") or ()
    results = [part.get("function_response") for part in parts]
    return not results or any(result is None or result.get("name") in RESERVED for result in results)


def pod_event(event: dict[str, Any], rights: TurnRights, now: float) -> dict[str, Any]:
    """Return a result of ``EVENT.validate`` with a time between the start of the turn and ``now``.

    Raises Forbidden for a change of the app's state without the right to it, and for the turn of another message.
    """
    if changes_app(event) and not rights.app_state:
        raise Forbidden("app: is shared by all users of the app; a pod changes it if its class says appState: write")
    invocation_id = event.get("invocation_id") or ""
    other = message_id_of(invocation_id.removeprefix("e-"))
    if other is not None and other != rights.message_id:
        raise Forbidden("invocationId: is the turn of another message")
    return {**event, "timestamp": min(max(event.get("timestamp", now), rights.began), now)}


def users_event(event: dict[str, Any], message: Message, rights: TurnRights, now: float) -> dict[str, Any]:
    """Return the event by the user as the message has it, in the place of ``event``. Raises Forbidden."""
    said: AdkEvent = user_event(message, "", now)
    real = from_json(said.data)
    place = {name: event[name] for name in PLACE if name in event}
    placed = pod_event({**place, "actions": PLAIN}, rights, now)
    return {**placed, "content": real.get("content"), "actions": {**PLAIN, **real["actions"]}}
