"""A front door as a process: start everything, serve, stop everything, in this order and by signals.

The first SIGINT, SIGTERM or SIGHUP drains: no new connections, no new turns; what runs gets ``shutdown_timeout``
seconds.  A second one gives up on the turns (the next front door delivers them again) and ends the pods at once.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
import signal
import socket
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from typing import Any

import uvicorn
import uvloop

from session_manager.api.app import build_app
from session_manager.api.services import Services
from session_manager.domain.session_class import SessionClasses
from session_manager.settings import Settings

log = logging.getLogger(__name__)

LINGER = 1.0  # seconds, after the last turn, for answers to go out
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


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

    async def run(self, asked: asyncio.Event, at_once: asyncio.Event) -> None:
        """Serve until ``asked``, then drain until ``at_once``. StartupFailure: it could not start."""
        try:
            await _unless(asked, self._services.start())
            if not asked.is_set():
                await self._serve(asked, at_once)
        finally:
            await _unless(at_once, self._services.close(patience=0.0))
            if at_once.is_set():
                await self._services.close(patience=0.0, grace=0.0)
            log.info("stopped", extra={"event": "front.stopped"})

    async def _serve(self, asked: asyncio.Event, at_once: asyncio.Event) -> None:
        serving = asyncio.create_task(self._server.serve(sockets=[self._listener]), name="uvicorn")
        log.info("serving", extra={"event": "front.serving", "port": self._listener.getsockname()[1]})
        self._announce()
        try:
            await _first(asked.wait(), asyncio.shield(serving), self._services.until_refused())
        finally:
            log.info("stopping", extra={"event": "front.stopping"})
            self._services.stop_taking_work()
            self._server.should_exit = True
            await _unless(at_once, self._services.drain(self._services.settings.shutdown_timeout))
            await self._end_requests()
            self._server.force_exit = at_once.is_set()
            await _unless(at_once, serving)

    async def _end_requests(self) -> None:
        """Let answers out. Who still waits then is told where to look later, and streams end."""
        requests = self._server.server_state.tasks
        if requests:
            _, late = await asyncio.wait(requests, timeout=LINGER)
            for request in late:
                request.cancel()
            if late:
                await asyncio.wait(late, timeout=LINGER)


async def _first(*works: Awaitable[Any]) -> None:
    """Until one of them is done. StartupFailure of any is raised; the others are cancelled."""
    tasks = [asyncio.ensure_future(work) for work in works]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in tasks:
            if task.done():
                task.result()
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _unless(event: asyncio.Event, work: Awaitable[Any]) -> None:
    """Do it, unless the event comes first; then cancel it."""
    await _first(event.wait(), work)


Work = Callable[[asyncio.Event, asyncio.Event], Coroutine[Any, Any, None]]


def run_until_signalled(work: Work) -> None:
    """Run ``work(asked, at_once)`` on uvloop; the first signal sets ``asked``, the next ``at_once``."""

    async def main() -> None:
        asked, at_once = asyncio.Event(), asyncio.Event()

        def signalled() -> None:
            (at_once if asked.is_set() else asked).set()

        loop = asyncio.get_running_loop()
        for number in SIGNALS:
            loop.add_signal_handler(number, signalled)
        await work(asked, at_once)

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(main())
