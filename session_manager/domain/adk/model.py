"""Sessions and events as ADK sees them.

Times are Unix seconds as floats, as ADK stores and sends them. An event's ``data`` is ``event_data``: one JSON object
in snake_case without nulls, including ``id``, ``invocation_id`` and ``timestamp``.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from session_manager.domain.session import Session
from session_manager.domain.times import Micros

State = dict[str, Any]

APP, USER, TEMP = "app:", "user:", "temp:"


class AdkKey(NamedTuple):
    """ADK's name of a session. Our own name is its ``uuid``."""

    app: str
    user_id: str
    id: str


class Delta(NamedTuple):
    """Changes of state, by the state that keeps them. Keys have no prefix."""

    app: State
    user: State
    session: State


class AdkEvent(NamedTuple):
    """An event to store. ``data`` contains no ``temp:`` key."""

    id: str
    invocation_id: str
    timestamp: float
    data: str
    delta: Delta


class AdkTurn(NamedTuple):
    """The events that a pod speaking ADK reports of its turn. ``user`` is the front door's event for the message.

    It is not stored if the pod keeps its own history, which shows for example if one of ``events`` is stored already.
    """

    user: AdkEvent | None
    events: tuple[AdkEvent, ...] = ()


class ClassAndTtl(NamedTuple):
    """The class of a session and its TTL in microseconds."""

    class_name: str
    ttl: Micros


AdoptAs = Callable[[str], ClassAndTtl]
"""Returns the class and TTL for a session that a real ADK service created for this app. Any thread may call it."""


class AdkSession(NamedTuple):
    """A session with its merged state (keys with prefixes) and the ``data`` of its events, oldest first.

    ``size`` is the approximate length of its JSON, in characters.
    """

    uuid: str
    key: AdkKey
    state: State
    update_time: float
    events: list[str]
    size: int = 0


class CreatedAdkSession(NamedTuple):
    """Our record of a new session, and the session as ADK sees it."""

    record: Session
    session: AdkSession


@dataclass(frozen=True, slots=True)
class NewAdkSession:
    """A session to create. ``ttl`` is in microseconds; keys of ``state`` have their prefixes."""

    uuid: str
    key: AdkKey
    class_name: str
    ttl: Micros
    state: State = field(default_factory=dict)
    events: tuple[AdkEvent, ...] = ()


def split_state(state: State) -> Delta:
    """Return the state split by prefix, without ``temp:`` keys."""
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
    """Return the state that a reader of a session sees."""
    prefixed = {APP + key: value for key, value in app.items()} | {USER + key: value for key, value in user.items()}
    return session | prefixed
