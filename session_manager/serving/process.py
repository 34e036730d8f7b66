"""A front door as a process: its signals, and its listening socket."""

from __future__ import annotations

import asyncio
import errno
import ipaddress
import signal
import socket
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from typing import Any

import uvloop

from session_manager.domain.errors import StartupFailure
from session_manager.settings import Settings

BACKLOG = 2048
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@dataclass(frozen=True, slots=True)
class Stop:
    """The first signal sets ``asked``, the second ``at_once``.

    ``asked``: finish the running turns, then end. ``at_once``: do not wait for them.
    """

    asked: asyncio.Event = field(default_factory=asyncio.Event)
    at_once: asyncio.Event = field(default_factory=asyncio.Event)

    def signalled(self) -> None:
        (self.at_once if self.asked.is_set() else self.asked).set()


def reject_open_door(settings: Settings) -> None:
    """Raise StartupFailure if other machines could call and no key is required."""
    host = settings.server.host
    if not settings.server.api_keys and not _is_loopback(host):
        raise StartupFailure(
            f"HOST: {host} can be reached from other machines, and callers need no key; "
            "set SESSION_API_KEYS=name:key, or listen on 127.0.0.1"
        )


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def listen(settings: Settings) -> socket.socket:
    """Open the listening socket, before anything else is started. Port 0 takes a free one. Raises StartupFailure."""
    host, port = settings.server.host, settings.server.listen_port
    try:
        family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    except (OSError, UnicodeError):
        raise StartupFailure(f"HOST: {host} is not an address of this machine") from None
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        # Accepted sockets inherit it. asyncio alone leaves it off, and the second write of an answer waits 40 ms.
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        listener.bind(address)
        listener.listen(BACKLOG)
    except OSError as error:
        listener.close()
        raise StartupFailure(_cannot_listen(error, host, port)) from None
    return listener


def _cannot_listen(error: OSError, host: str, port: int) -> str:
    if error.errno == errno.EADDRINUSE:
        return f"PORT: {port} on {host} is in use; choose another port"
    if error.errno == errno.EACCES:
        return f"PORT: {port} is reserved for root; choose a port above 1023"
    return f"HOST: {host} is not an address of this machine"


def with_own_address(settings: Settings, listener: socket.socket) -> Settings:
    """Return settings whose SESSION_MANAGER_URL is where it listens, for pods on this machine, unless it was set."""
    if settings.pods.front_door_url is not None or settings.pods.runtime != "process":
        return settings
    host, port = listener.getsockname()[:2]
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104  where it is bound, not where to bind
    url = f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
    return settings.updated("pods", front_door_url=url)


def run_until_signalled(work: Callable[[Stop], Coroutine[Any, Any, None]]) -> None:
    """Run ``work`` on uvloop, with signals turned into a ``Stop``."""

    async def main() -> None:
        stop = Stop()
        for number in SIGNALS:
            asyncio.get_running_loop().add_signal_handler(number, stop.signalled)
        await work(stop)

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(main())
