"""Sessions and events as ADK knows them.

Times are Unix seconds as floats, which is what ADK stores and sends. ``data`` of an event is ``event_data``: one JSON
object in snake_case, nulls left out, with ``id``, ``invocation_id`` and ``timestamp`` inside.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, NamedTuple

from session_manager.domain.times import Micros

State = dict[str, Any]

APP, USER, TEMP = "app:", "user:", "temp:"


class AdkKey(NamedTuple):
    """What ADK calls a session by. Our ``uuid`` stands beside it."""

    app: str
    user_id: str
    id: str


class Delta(NamedTuple):
    """Changes of state by where they are kept, keys without their prefix."""

    app: State
    user: State
    session: State


class AdkEvent(NamedTuple):
    """An event to be stored. ``data`` holds no ``temp:`` key."""

    id: str
    invocation_id: str
    timestamp: float
    data: str
    delta: Delta


class AdkTurn(NamedTuple):
    """What a pod that speaks ADK tells of its turn. ``user``: the front door's event for the user's message.

    It is left out when the pod keeps its own record of both: one of ``events`` is known already, say.
    """

    user: AdkEvent | None
    events: tuple[AdkEvent, ...] = ()


class Home(NamedTuple):
    """What a session that a real ADK service made becomes here. ``ttl`` in microseconds."""

    class_name: str
    ttl: Micros


class AdkSession(NamedTuple):
    """``state`` is merged, with its prefixes. ``events`` are their ``data``, oldest first.

    ``size``: characters of the JSON of all of it, about.
    """

    uuid: str
    key: AdkKey
    state: State
    update_time: float
    events: list[str]
    size: int = 0


@dataclass(frozen=True, slots=True)
class NewAdkSession:
    """``ttl`` in microseconds. ``state`` with its prefixes."""

    uuid: str
    key: AdkKey
    class_name: str
    ttl: Micros
    state: State = field(default_factory=dict)
    events: tuple[AdkEvent, ...] = ()


class Attempt(NamedTuple):
    """The one attempt of the one message that a pod may write for."""

    message_id: str
    number: int


def split_state(state: State) -> Delta:
    """State by its prefixes; ``temp:`` keys are left out."""
    delta = Delta({}, {}, {})
    for key, value in state.items():
        if key.startswith(APP):
            delta.app[key.removeprefix(APP)] = value
        elif key.startswith(USER):
            delta.user[key.removeprefix(USER)] = value
        elif not key.startswith(TEMP):
            delta.session[key] = value
    return delta


def merge_state(app: State, user: State, session: State) -> State:
    """What a reader of a session sees."""
    prefixed = {APP + key: value for key, value in app.items()} | {USER + key: value for key, value in user.items()}
    return session | prefixed
