"""Pods that are only addresses, and their one class."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from uuid import uuid4

from session_manager.domain.errors import InvalidInput
from session_manager.domain.session_class import SessionClass
from session_manager.runtime.protocol import ExitListener, PhaseListener, PodAddress
from session_manager.scaling.workers import ScalerTimes

BRISK = SessionClass("brisk", idle_timeout=20.0)
TIMES = ScalerTimes(tick=0.02, heartbeat=5.0)


class Classes:
    def get(self, name: str) -> SessionClass:
        if name != BRISK.name:
            raise InvalidInput("there is no such class")
        return BRISK


@dataclass
class Pods:
    """A runtime whose pods are only addresses. They start at once, unless ``hold_up`` is set.

    ``stuck``: sessions whose pods never get ready.
    ``open``: it was started and has not been closed.
    """

    present: dict[str, PodAddress] = field(default_factory=dict)
    hold_up: bool = False
    open: bool = False
    forgot: list[tuple[str, bool]] = field(default_factory=list)
    starting: asyncio.Event = field(default_factory=asyncio.Event)
    stuck: set[str] = field(default_factory=set)

    async def start(self) -> None:
        self.open = True

    async def close(self, grace: float | None = None) -> None:
        self.open = False

    def on_exit(self, listener: ExitListener) -> None: ...

    async def start_pod(self, session: str, session_class: SessionClass, on_phase: PhaseListener) -> PodAddress:
        self.starting.set()
        if self.hold_up or session in self.stuck:
            await asyncio.Event().wait()
        self.present[session] = address = PodAddress("127.0.0.1", 4000, str(uuid4()))
        return address

    async def stop_pod(self, session: str, uid: str, grace: float) -> None:
        if session in self.present and self.present[session].uid == uid:
            del self.present[session]

    def pods(self) -> dict[str, PodAddress]:
        return dict(self.present)

    async def forget(self, session: str, *, files: bool) -> None:
        self.forgot.append((session, files))
