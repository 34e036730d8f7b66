"""A SessionClass describes the pods of sessions, as a StorageClass describes volumes."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Protocol

from session_manager.domain.access import Classes
from session_manager.domain.errors import InvalidInput

DEFAULT = "default"


class Redelivery(StrEnum):
    """The treatment of a pod that may have seen a message, before the message is sent again."""

    REPLACE = "replace"  # start a new pod, so that no effects of half a turn stay in memory
    IDEMPOTENT = "idempotent"  # keep the pod: it recognises X-Message-Id itself


class AppState(StrEnum):
    """The right of pods to ADK's ``app:`` state, which all users of the app share."""

    READ = "read"
    WRITE = "write"


class PodProtocol(StrEnum):
    """The protocol of a pod: the contract of docs/pod-contract.md, or that of an ADK server."""

    HTTP = "http"
    ADK = "adk"


@dataclass(frozen=True, slots=True)
class Probe:
    """The readiness check: ``path`` must answer 2xx. Times are in seconds."""

    path: str = "/health"
    startup_timeout: float = 60.0
    interval: float = 0.05
    timeout: float = 1.0


@dataclass(frozen=True, slots=True)
class SessionClass:
    """Times are in seconds. The process runtime starts ``command``, Kubernetes starts ``image``.

    ``warm`` is the number of pods that the process runtime keeps ready for sessions that wake.
    """

    name: str
    command: tuple[str, ...] = ()
    image: str | None = None
    port: int = 1111
    protocol: PodProtocol = PodProtocol.HTTP
    env: dict[str, str] = field(default_factory=dict, repr=False)
    probe: Probe = Probe()
    idle_timeout: float = 120.0
    ttl: float = 86_400.0
    turn_timeout: float = 600.0
    grace_period: float = 5.0
    redelivery: Redelivery = Redelivery.REPLACE
    app_state: AppState = AppState.READ
    warm: int = 0


class SessionClasses(Protocol):
    """The source of SessionClasses: a YAML file, or the cluster."""

    def get(self, name: str) -> SessionClass:
        """Return the class. Raises InvalidInput with the known names, or Unavailable before the classes are known."""


def unknown_class(name: str, known: Iterable[str]) -> InvalidInput:
    """Return the error about a class that does not exist, or not for this caller."""
    names = ", ".join(sorted(known))
    return InvalidInput(f"unknown class {name!r}; {f'known classes: {names}' if names else 'no class exists'}", "class")


def visible_class(classes: SessionClasses, name: str, visible: Classes) -> SessionClass:
    """Return the class, if the caller sees it. Raises InvalidInput with the names that it sees, or Unavailable."""
    if visible is None:
        return classes.get(name)
    if name in visible:
        with suppress(InvalidInput):
            return classes.get(name)
    raise unknown_class(name, [each for each in visible if _exists(classes, each)])


def class_name_of_app(classes: SessionClasses, app: str) -> str:
    """Return the name of the class for sessions of an app. Raises Unavailable before the classes are known."""
    return app if _exists(classes, app) else DEFAULT


def _exists(classes: SessionClasses, name: str) -> bool:
    try:
        classes.get(name)
    except InvalidInput:
        return False
    return True


def class_for_app(classes: SessionClasses, app: str) -> SessionClass:
    """Return the class for a new session of an app: the one with its name, or else the default class.

    Raises InvalidInput if both are unknown, Unavailable before the classes are known.
    """
    try:
        return classes.get(app)
    except InvalidInput:
        return classes.get(DEFAULT)


def class_of_session(classes: SessionClasses, name: str) -> SessionClass:
    """Return the class of an existing session. If it was removed, the default times apply and no pod can start."""
    try:
        return classes.get(name)
    except InvalidInput:
        return SessionClass(name=name)
