"""The port to a runtime that starts and stops pods. Adapters: ``process`` (on this machine) and ``kubernetes``."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from session_manager.domain.session_class import SessionClass


@dataclass(frozen=True, slots=True)
class PodAddress:
    """The address of a pod: an IP literal, a port, and the pod's UID, since IPs and ports are reused."""

    ip: str
    port: int
    uid: str


@dataclass(frozen=True, slots=True)
class PodExit:
    """A pod that ended by itself.

    ``reason``: an exit code or a signal's name, for a person. ``last_words``: the last line that it printed, which may
    be about a message, so it is for the session's own users and not for logs.
    """

    session: str
    uid: str
    reason: str
    last_words: str = ""


PhaseListener = Callable[[str], None]
ExitListener = Callable[[PodExit], None]


class Runtime(Protocol):
    """Starts and stops one pod per session. The scaler never makes two calls for one session at the same time."""

    async def start(self) -> None:
        """Take over the pods, and end what a killed owner left behind. Raises StartupFailure."""
        ...

    async def close(self, grace: float | None = None) -> None:
        """Stop working, and release the pods. ``grace``: seconds until SIGKILL, by default the class's."""
        ...

    def on_exit(self, listener: ExitListener) -> None:
        """Call ``listener`` whenever a pod that answered its probe ends although ``stop_pod`` was not called."""
        ...

    async def start_pod(self, session: str, session_class: SessionClass, on_phase: PhaseListener) -> PodAddress:
        """Start a pod and wait until its probe answers.

        ``on_phase`` receives each phase as text. Cancelling ends what was started. Raises PodCannotStart if the pod
        exits, never answers or cannot be started; then nothing of it is left.
        """
        ...

    async def stop_pod(self, session: str, uid: str, grace: float) -> None:
        """End the pod: SIGTERM, and SIGKILL after ``grace`` seconds. Return once its end was observed. Idempotent."""
        ...

    def pods(self) -> dict[str, PodAddress]:
        """Return the pods that answer now, by session."""
        ...

    async def forget(self, session: str, *, files: bool) -> None:
        """Drop what the runtime keeps of a session that expired (``files=False``) or was deleted."""
        ...
