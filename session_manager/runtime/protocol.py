"""The port to what runs pods. Adapters: ``process`` (subprocesses on this machine), ``kubernetes``."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from session_manager.domain.session_class import SessionClass


@dataclass(frozen=True, slots=True)
class Address:
    """Where a pod answers: an IP literal, a port, and the pod's UID (IPs and ports are reused, UIDs are not)."""

    ip: str
    port: int
    uid: str


@dataclass(frozen=True, slots=True)
class PodExit:
    """A pod that ended by itself. ``reason`` is for a person: an exit code or a signal's name."""

    session: str
    uid: str
    reason: str


PhaseListener = Callable[[str], None]
ExitListener = Callable[[PodExit], None]


class Runtime(Protocol):
    """Starts and stops one pod per session. Calls for one session are never concurrent; the scaler sees to it."""

    async def start(self) -> None:
        """Take over: end what a killed owner left behind. Raises StartupFailure when another owner is alive."""
        ...

    async def close(self, grace: float | None = None) -> None:
        """Stop every pod and let go of the ownership. ``grace``: seconds until SIGKILL, by default the class's."""
        ...

    def on_exit(self, listener: ExitListener) -> None:
        """Call ``listener`` whenever a pod that answered its probe ends without ``stop_pod`` having been asked."""
        ...

    async def start_pod(self, session: str, session_class: SessionClass, on_phase: PhaseListener) -> Address:
        """Start a pod and wait until its probe answers.

        ``on_phase`` is told in words how far it is. PodCannotStart when it exits, never answers or cannot be
        started; then nothing of it is left. Cancelling ends what was started.
        """
        ...

    async def stop_pod(self, session: str, uid: str, grace: float) -> None:
        """End the whole pod: SIGTERM, after ``grace`` seconds SIGKILL. Returns when it is observed gone. Idempotent."""
        ...

    def pods(self) -> dict[str, Address]:
        """The pods that answer now, by session."""
        ...

    async def forget(self, session: str, *, files: bool) -> None:
        """The session expired (``files=False``) or was deleted: drop what the runtime keeps of it."""
        ...

    async def gone(self, session: str) -> bool:
        """No pod and no file of the session is left. Any front door of the same runtime may ask, owner or not."""
        ...

    async def logs(self, session: str, tail: int) -> str:
        """The last ``tail`` lines that the session's pods printed, oldest first; empty when there are none."""
        ...
