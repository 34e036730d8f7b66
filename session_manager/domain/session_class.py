"""A SessionClass: what the pod of a session is, like a StorageClass is what a volume is."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Protocol

from session_manager.domain.errors import InvalidInput

DEFAULT = "default"


class Redelivery(StrEnum):
    """What a pod that may have seen a message already gets before it is sent again."""

    REPLACE = "replace"  # a new pod, so that half a turn's effects in memory are gone
    IDEMPOTENT = "idempotent"  # the same pod: it recognises X-Message-Id itself


class PodProtocol(StrEnum):
    """What a pod speaks: the plain contract of docs/pod-contract.md, or that of an ADK server."""

    HTTP = "http"
    ADK = "adk"


@dataclass(frozen=True, slots=True)
class Probe:
    """Readiness: ``path`` answers 2xx. Seconds."""

    path: str = "/health"
    startup_timeout: float = 60.0
    interval: float = 0.05
    timeout: float = 1.0


@dataclass(frozen=True, slots=True)
class SessionClass:
    """All times in seconds. ``command`` is what the process runtime starts; ``image`` is for Kubernetes.

    ``warm``: how many pods the process runtime keeps ready for sessions that wake.
    """

    name: str
    command: tuple[str, ...] = ()
    image: str | None = None
    port: int = 1111
    protocol: PodProtocol = PodProtocol.HTTP
    env: dict[str, str] = field(default_factory=dict)
    probe: Probe = Probe()
    idle_timeout: float = 120.0
    ttl: float = 86_400.0
    turn_timeout: float = 600.0
    grace_period: float = 5.0
    redelivery: Redelivery = Redelivery.REPLACE
    warm: int = 0


class SessionClasses(Protocol):
    """Where SessionClasses are looked up: a YAML file, or the cluster."""

    def get(self, name: str) -> SessionClass:
        """InvalidInput, naming the known ones, when there is none of this name. Unavailable before they are known."""
        ...


def class_for_app(classes: SessionClasses, app: str) -> SessionClass:
    """The class of a session to be made for an app: that of its name, else the default one.

    InvalidInput when there is neither, Unavailable before they are known.
    """
    try:
        return classes.get(app)
    except InvalidInput:
        return classes.get(DEFAULT)


def class_of(classes: SessionClasses, name: str) -> SessionClass:
    """The class of an existing session. One whose class was removed keeps the default times; its pod cannot start."""
    try:
        return classes.get(name)
    except InvalidInput:
        return SessionClass(name=name)
