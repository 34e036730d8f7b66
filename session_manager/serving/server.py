"""A front door as a process: start all services, serve, and stop on a signal.

The first SIGINT, SIGTERM or SIGHUP drains. For ``shutdown_delay`` seconds requests are served as before, while proxies
learn to send callers elsewhere: /readyz says 503, and every answer closes its connection. Then the listening socket is
closed, and running turns get ``shutdown_timeout`` seconds; open connections may still send requests. A second signal
skips the waiting: the pods end at once, and the next front door delivers the interrupted messages again.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import math
import socket
from collections.abc import Callable, Iterator
from functools import partial

import uvicorn

from session_manager.aio.tasks import cancel, first_of, unless
from session_manager.api.front import build_app
from session_manager.people.addresses import Proxies
from session_manager.serving.connection import ClientConnection, Patience
from session_manager.serving.lobby import Lobby
from session_manager.serving.memory import give_back
from session_manager.serving.process import Stop
from session_manager.settings import Settings
from session_manager.wiring.services import Services

log = logging.getLogger(__name__)

LINGER = 1.0  # seconds after the last turn for answers to leave and for requests that are on their way


class _Server(uvicorn.Server):
    """uvicorn without its signal handlers, which raise the signal again at the end."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


def _protocol(services: Services) -> Callable[..., ClientConnection]:
    """Return what makes a connection: all of them share one lobby."""
    server, capacity = services.settings.server, services.settings.capacity
    lobby = Lobby(services.room, capacity, Proxies(server.trusted_proxies))
    head = min(capacity.head_timeout, server.request_timeout)
    patience = Patience(head, server.request_timeout, capacity.write_timeout)
    return partial(ClientConnection, lobby=lobby, patience=patience)


def _configure(services: Services) -> uvicorn.Config:
    return uvicorn.Config(
        build_app(services),
        http=_protocol(services),  # type: ignore[arg-type]
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        # The front door decides itself which X-Forwarded-For it trusts.
        proxy_headers=False,
        timeout_keep_alive=services.settings.server.keep_alive_timeout,
        timeout_graceful_shutdown=math.ceil(services.settings.server.shutdown_timeout + 2 * LINGER),
    )


def _collect_less() -> None:
    """Make the garbage collector run rarely: it took a tenth of the time, and requests leave hardly any cycles."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 20, 20)


class FrontDoor:
    """``announce`` is called with the port once requests are served."""

    def __init__(self, settings: Settings, listener: socket.socket, announce: Callable[[int], None]) -> None:
        self._services = Services(settings)
        self._server = _Server(_configure(self._services))
        self._listener = listener
        self._announce = announce

    async def run(self, stop: Stop) -> None:
        """Serve until asked to stop, then drain. Raises StartupFailure if it could not start."""
        try:
            await unless(stop.asked, self._services.start())
            _collect_less()
            if not stop.asked.is_set():
                await self._serve(stop)
        finally:
            await unless(stop.at_once, self._services.close(patience=0.0))
            if stop.at_once.is_set():
                await self._services.close(patience=0.0, grace=0.0)
        log.info("stopped", extra={"event": "front.stopped"})

    async def _serve(self, stop: Stop) -> None:
        serving = asyncio.create_task(self._server.serve(sockets=[self._listener]), name="uvicorn")
        trimming = asyncio.create_task(give_back(), name="memory")
        port = self._listener.getsockname()[1]
        log.info("serving", extra={"event": "front.serving", "port": port})
        self._announce(port)
        try:
            await first_of(stop.asked.wait(), asyncio.shield(serving), self._services.until_refused())
        finally:
            await self._leave(stop)
            await cancel(trimming)
            await unless(stop.at_once, serving)

    async def _leave(self, stop: Stop) -> None:
        settings = self._services.settings
        log.info("stopping", extra={"event": "front.stopping"})
        self._services.stopping = True
        if stop.asked.is_set():
            await unless(stop.at_once, asyncio.sleep(settings.server.shutdown_delay))
        await self._stop_listening()
        await unless(stop.at_once, self._services.drain(settings.server.shutdown_timeout))
        await self._end_requests()
        self._server.should_exit = True
        self._server.force_exit = stop.at_once.is_set()

    async def _stop_listening(self) -> None:
        """Take the connections that the kernel has accepted, which it would reset, then close the listening socket."""
        if not self._server.started:
            return
        loop = asyncio.get_running_loop()
        self._listener.setblocking(False)
        with contextlib.suppress(OSError):  # BlockingIOError: that was the last one
            while True:
                connection, _ = self._listener.accept()
                await loop.connect_accepted_socket(self._protocol, connection)
        for server in self._server.servers:
            server.close()

    def _protocol(self) -> asyncio.Protocol:
        """Make a connection the way uvicorn does."""
        config = self._server.config
        make: Callable[..., asyncio.Protocol] = config.http_protocol_class
        return make(config, self._server.server_state, app_state={})

    async def _end_requests(self) -> None:
        """Let answers leave, then cancel the requests that still wait: callers learn where to ask later."""
        state = self._server.server_state
        await _within(LINGER, lambda: not state.connections)
        for connection in list(state.connections):
            connection.shutdown()
        late = list(state.tasks)
        for request in late:
            request.cancel()
        if late:
            await asyncio.wait(late, timeout=LINGER)


async def _within(seconds: float, condition: Callable[[], bool]) -> None:
    """Wait until the condition is true, but not longer than this."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            while not condition():  # noqa: ASYNC110  uvicorn has no event for it
                await asyncio.sleep(seconds / 50)
