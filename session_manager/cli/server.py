"""A front door as a process: start everything, serve, stop everything, in this order and by signals.

The first SIGINT, SIGTERM or SIGHUP drains: no new connections, no new turns; what runs gets ``shutdown_timeout``
seconds.  A second one gives up on the turns (the next front door delivers them again) and ends the pods at once.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import math
import socket
from collections.abc import Callable, Iterator

import uvicorn

from session_manager.api.app import build_app
from session_manager.api.services import Services
from session_manager.cli.signals import Stop, first, unless
from session_manager.domain.session_class import SessionClasses
from session_manager.settings import Settings

log = logging.getLogger(__name__)

LINGER = 1.0  # seconds, after the last turn, for answers to go out


class _Server(uvicorn.Server):
    """uvicorn without its signal handlers, which would raise the signal again at the end."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


def _configure(services: Services) -> uvicorn.Config:
    return uvicorn.Config(
        build_app(services),
        http="httptools",
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        # The front door itself decides whose X-Forwarded-For counts.
        proxy_headers=False,
        timeout_graceful_shutdown=math.ceil(services.settings.shutdown_timeout + 2 * LINGER),
    )


class FrontDoor:
    """``announce`` is called once it serves."""

    def __init__(
        self, settings: Settings, classes: SessionClasses, listener: socket.socket, announce: Callable[[], None]
    ) -> None:
        self._services = Services(settings, classes)
        self._server = _Server(_configure(self._services))
        self._listener = listener
        self._announce = announce

    async def run(self, stop: Stop) -> None:
        """Serve until asked to stop, then drain. StartupFailure: it could not start."""
        try:
            await unless(stop.asked, self._services.start())
            # What is there now stays; looking through it with every collection is a tenth of the time under load.
            gc.collect()
            gc.freeze()
            if not stop.asked.is_set():
                await self._serve(stop)
        finally:
            await unless(stop.at_once, self._services.close(patience=0.0))
            if stop.at_once.is_set():
                await self._services.close(patience=0.0, grace=0.0)
        log.info("stopped", extra={"event": "front.stopped"})

    async def _serve(self, stop: Stop) -> None:
        serving = asyncio.create_task(self._server.serve(sockets=[self._listener]), name="uvicorn")
        log.info("serving", extra={"event": "front.serving", "port": self._listener.getsockname()[1]})
        self._announce()
        try:
            await first(stop.asked.wait(), asyncio.shield(serving), self._services.until_refused())
        finally:
            log.info("stopping", extra={"event": "front.stopping"})
            self._services.stop_taking_work()
            self._server.should_exit = True
            await unless(stop.at_once, self._services.drain(self._services.settings.shutdown_timeout))
            await self._end_requests()
            self._server.force_exit = stop.at_once.is_set()
            await unless(stop.at_once, serving)

    async def _end_requests(self) -> None:
        """Let answers out. Who still waits then is told where to look later, and streams end."""
        requests = self._server.server_state.tasks
        if requests:
            _, late = await asyncio.wait(requests, timeout=LINGER)
            for request in late:
                request.cancel()
            if late:
                await asyncio.wait(late, timeout=LINGER)
