"""The server in a pod: ``GET /health`` and ``POST /chat``, a thread per connection.

It uses threads, not an event loop: it starts in half the time and memory, answers a plain function faster, and answers
``/health`` while a turn runs.
"""

from __future__ import annotations

import os
import signal
import socket
import sys
import threading
from contextlib import suppress

from session_manager.agent.chat import Chat
from session_manager.agent.wire import BadRequest, HttpConnection, PeerGone, Request

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import FrameType

    from session_manager.agent.chat import Agent

DEFAULT_PORT = 1111


def serve(agent: Agent) -> None:
    """Serve ``agent(message, context)`` on $HOST:$PORT until SIGTERM; then finish the running turn and return.

    The agent returns the reply, directly or as a coroutine: a dict, or any other JSON value, which is sent as
    ``{"reply": …}``. If it is a generator, plain or async, its pieces are streamed.
    """
    chat = Chat(agent, os.environ.get("SESSION_ID"), os.environ.get("HOME", "."))
    server = Server(chat, os.environ.get("HOST", ""), int(os.environ.get("PORT", DEFAULT_PORT)))

    def stop(number: int, frame: FrameType | None) -> None:
        server.stop()

    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGINT, stop)
    if sys.stderr.isatty():
        print(f"Serving on port {server.port}; press Ctrl-C to stop", file=sys.stderr)  # noqa: T201
    server.run()


class Server:
    """Listens once it is created; an empty ``host`` means every interface. Raises OSError if the port is taken."""

    def __init__(self, chat: Chat, host: str, port: int) -> None:
        self._chat = chat
        self._listener = listen(host, port)
        self._change = threading.Condition()
        self._running = 0
        self._stopping = False
        self.port: int = self._listener.getsockname()[1]

    def run(self) -> None:
        """Accept connections until ``stop``, and return when the last turn has ended."""
        while not self._stopping:
            try:
                peer, _ = self._listener.accept()
            except OSError:
                continue
            threading.Thread(target=self._serve_connection, args=(peer,), daemon=True).start()
        self._listener.close()
        with self._change:
            self._change.wait_for(lambda: self._running == 0)

    def stop(self) -> None:
        """Stop accepting connections. Takes no lock, so that a signal handler may call it."""
        self._stopping = True
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)  # wakes accept()

    def _serve_connection(self, peer: socket.socket) -> None:
        connection = HttpConnection(peer)
        with peer, suppress(PeerGone):
            try:
                while (request := connection.read()) is not None:
                    self._serve_request(connection, request)
                    if not request.keep_alive:
                        return
            except BadRequest as error:
                connection.reject(error)

    def _serve_request(self, connection: HttpConnection, request: Request) -> None:
        route = request.method, request.path
        if route == ("POST", "/chat"):
            self._serve_chat(connection, request)
        elif route == ("GET", "/health"):
            connection.answer(503 if self._stopping else 200, {"status": "ok"}, request.keep_alive)
        elif request.path in {"/chat", "/health"}:
            allowed = "POST" if request.path == "/chat" else "GET"
            headers = f"Allow: {allowed}\r\n"
            connection.answer(405, {"error": f"method not allowed; use {allowed}"}, request.keep_alive, headers)
        else:
            connection.answer(404, {"error": "not found; use POST /chat or GET /health"}, request.keep_alive)

    def _serve_chat(self, connection: HttpConnection, request: Request) -> None:
        with self._change:
            accepted = not self._stopping
            self._running += accepted
        if not accepted:
            connection.answer(503, {"error": "the pod is stopping"}, request.keep_alive, "Retry-After: 1\r\n")
            return
        try:
            self._chat.answer(connection, request)
        finally:
            with self._change:
                self._running -= 1
                self._change.notify_all()


def listen(host: str, port: int) -> socket.socket:
    """Open the listening socket; an empty ``host`` means every interface."""
    if not host and socket.has_dualstack_ipv6():
        return socket.create_server(("::", port), family=socket.AF_INET6, backlog=128, dualstack_ipv6=True)
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    return socket.create_server((host, port), family=family, backlog=128)
