"""One client's connection, with the limits that uvicorn does not have.

A head must arrive within ``head_timeout`` seconds and a request within ``request_timeout``, and a client must read
something of a waiting answer within ``write_timeout``. Bytes that are neither a body nor a complete head are held up to
a size. So no client keeps a connection or takes memory by sending or reading slowly, or endlessly. Errors have the
form of every other error.

Only the head of a request has headers: a trailer comes after a proxy has checked the head, so it is dropped. A request
to switch to another protocol is answered like any other.

A client that still sends its body when it is refused would lose the answer if the connection were closed, because the
kernel then resets it. So the connection is closed for writing only, and what still arrives is dropped for a while.
"""

from __future__ import annotations

import asyncio
import sys
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

import httptools
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from session_manager.api import errors
from session_manager.api.origins import completed
from session_manager.domain.errors import Overloaded, RateLimited
from session_manager.serving.heads import Fault, fault_of
from session_manager.serving.lobby import Lobby

MAX_HEAD = 64 * 1024  # bytes, give or take one read from the socket
MAX_PIPELINED = 32  # requests that wait on one connection; one read from the socket has room for thousands
LINGER = 10.0  # seconds for a refused client to end its request and read the answer
MAX_DROPPED = 32 * 1024 * 1024  # bytes that are read of it meanwhile, or of a body that its route does not read


@dataclass(frozen=True, slots=True)
class Patience:
    """Seconds for a head and for a whole request to arrive, and for a client to read something of its answer."""

    head: float
    request: float
    write: float


class ClientConnection(HttpToolsProtocol):
    """``holder``: the key of its caller, once it is known, which holds the bytes of its unread answers."""

    def __init__(self, *args: Any, lobby: Lobby, patience: Patience, **more: Any) -> None:
        super().__init__(*args, **more)
        self.origin: str | None = None
        self.holder: str | None = None
        self._lobby = lobby
        self._patience = patience
        self._since: float | None = None  # when the request began, if it has not arrived in full
        self._unread = 0  # bytes since the last piece of a body or the last complete head
        self._advanced = False
        self._in_head = False
        self._refused = False  # what still arrives is dropped
        self._dropped = 0
        self._answers: _Answers | None = None
        self._watch: asyncio.TimerHandle | None = None
        self._fault: Fault | None = None  # what is wrong with the present head
        self._received = b""
        self._parses_again = False
        self._until_read: asyncio.TimerHandle | None = None
        self._until_closed: asyncio.TimerHandle | None = None

    # -- its life ------------------------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self.app_state = {"connection": self}
        self._answers = _Answers(self)
        self.origin = self._lobby.origin(self.client[0]) if self.client else None
        self._since = self.loop.time()
        self._check_in(self._patience.head)
        try:
            self._lobby.enter(self)
        except (RateLimited, Overloaded) as error:
            self.refuse(error)

    def connection_lost(self, exc: Exception | None) -> None:
        self._lobby.leave(self)
        for timer in (self._watch, self._until_read, self._until_closed):
            if timer is not None:
                timer.cancel()
        super().connection_lost(exc)
        # Without the cycles of references the memory is free at once, not at the next garbage collection.
        self.app_state = {}
        self.scope = self.headers = self.cycle = self._answers = None  # type: ignore[assignment]
        self.pipeline.clear()

    def make_room(self) -> None:
        self._lobby.cut_off_slowest()

    def cut_off(self) -> None:
        self.transport.abort()

    def refuse(self, error: Exception) -> None:
        self._reject(errors.problem(error))

    # -- what arrives --------------------------------------------------------------------------------------------------

    def data_received(self, data: bytes) -> None:
        if self._refused:
            self._drop(len(data))
            return
        if self._since is None:
            self._since = self.loop.time()
        self._advanced = False
        self._received = data
        super().data_received(data)
        self._received = b""
        self._unread = 0 if self._advanced else self._unread + len(data)
        if self._unread > MAX_HEAD:
            long = "the head of a request must be 64 KiB or less"
            self._reject(_problem(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, long))
        elif self._in_head and not self._refused:
            self._hold_head()

    def _hold_head(self) -> None:
        try:
            self._lobby.hold_head(self, self._unread)
        except (RateLimited, Overloaded) as error:
            self.refuse(error)

    def on_message_begin(self) -> None:
        if len(self.pipeline) >= MAX_PIPELINED:
            raise ValueError("too many requests at once")
        self._in_head = True
        if self._since is None:
            self._since = self.loop.time()
        super().on_message_begin()

    def on_header(self, name: bytes, value: bytes) -> None:
        if self._in_head:
            super().on_header(name, value)

    def on_headers_complete(self) -> None:
        self._in_head = False
        self._advanced = True
        self._fault = fault_of(self.parser.get_method(), self.parser.get_http_version(), self.url, self.headers)
        if self.parser.should_upgrade() and self._unanswered is not None:
            self._fault = Fault(HTTPStatus.BAD_REQUEST, "Upgrade: must not be in a request sent before an answer came")
        if self._fault is not None:
            raise ValueError  # the parser gives up, and send_400_response is called
        if not self.parser.should_upgrade():
            self._lobby.busy(self)
            self._lobby.head_done(self)
            super().on_headers_complete()
            self.cycle.transport = self._answers  # type: ignore[assignment]

    def on_body(self, body: bytes) -> None:
        self._advanced = True
        if self.cycle.response_complete:
            self._drop(len(body))
        super().on_body(body)

    def on_message_complete(self) -> None:
        if self.parser.should_upgrade():
            return
        self._since = None
        self._advanced = True
        self._dropped = 0
        super().on_message_complete()

    def _drop(self, size: int) -> None:
        self._dropped += size
        if self._dropped > MAX_DROPPED:
            self.transport.abort()

    # -- what leaves ---------------------------------------------------------------------------------------------------

    def pause_writing(self) -> None:
        super().pause_writing()
        waiting = self.transport.get_write_buffer_size()
        self._lobby.waits_for_reader(self, waiting)
        self._read_until(waiting)

    def resume_writing(self) -> None:
        super().resume_writing()
        self._lobby.has_read(self)
        if self._until_read is not None:
            self._until_read.cancel()

    def on_response_complete(self) -> None:
        if self._refused:
            return
        unfinished = self.cycle.more_body
        super().on_response_complete()
        if self._unanswered is not None:
            return  # the answer to a request that was sent ahead is still to come
        self._lobby.idle(self)
        if unfinished and self.expect_100_continue:
            self.hang_up()  # the client may send its body now, or its next request

    def hang_up(self) -> None:
        """Close the connection once the client has its answer, also if it still sends its request."""
        if self._since is not None:
            self._linger()
        else:
            self._close()

    def timeout_keep_alive_handler(self) -> None:
        self._close()

    def _close(self) -> None:
        self.transport.close()
        waiting = self.transport.get_write_buffer_size()
        if waiting:
            self._read_until(waiting)

    def _read_until(self, waiting: int) -> None:
        """Cut the client off if it reads nothing in time; ``waiting`` bytes wait for it."""
        if self._until_read is not None:
            self._until_read.cancel()
        self._until_read = self.loop.call_later(self._patience.write, self._check_reader, waiting)

    def _check_reader(self, before: int) -> None:
        waiting = self.transport.get_write_buffer_size()
        if waiting >= before:
            self.transport.abort()
        elif waiting:
            self._read_until(waiting)

    # -- refusals ------------------------------------------------------------------------------------------------------

    def send_400_response(self, msg: str) -> None:
        fault = self._fault or Fault(HTTPStatus.BAD_REQUEST, "invalid request; expected HTTP/1.1")
        self._reject(_problem(*fault))

    def _unsupported_upgrade_warning(self) -> None:
        """Parse the request once more without its Upgrade header. uvicorn calls this at the end of such a head.

        The parser leaves what follows to the other protocol. Java's HttpClient asks for HTTP/2 in this way, also where
        a body follows.
        """
        if self._parses_again:
            self.send_400_response("")
            return
        upgrade = sys.exception()
        rest = self._received[upgrade.args[0] :] if isinstance(upgrade, httptools.HttpParserUpgrade) else b""
        lines = [name + b": " + value for name, value in self.headers if name != b"upgrade"]
        first = b"%b %b HTTP/%b" % (self.parser.get_method(), self.url, self.parser.get_http_version().encode())
        self.parser = httptools.HttpRequestParser(self)
        self.parser.set_dangerous_leniencies(lenient_data_after_close=True)  # like uvicorn's
        self._parses_again = True
        self.data_received(b"\r\n".join([first, *lines, b"", rest]))
        self._parses_again = False

    def _check_in(self, seconds: float) -> None:
        self._watch = self.loop.call_later(seconds, self._check)

    def _check(self) -> None:
        """Close the connection if a request is late. There is one timer per connection, not per request."""
        present = self._unanswered
        if self._since is None or (present is not None and not present.more_body):
            self._check_in(self._patience.head)  # pipelined requests wait behind the one that is answered now
            return
        in_head = self._in_head or present is None
        patience = self._patience.head if in_head else self._patience.request
        if (left := self._since + patience - self.loop.time()) > 0:
            self._check_in(left)
        elif self._in_head or present is not None:
            late = f"{'the head of a' if in_head else 'a'} request must arrive within {patience:g} s"
            self._reject(_problem(HTTPStatus.REQUEST_TIMEOUT, late))
        else:
            self._close()  # the client sent nothing, or has its answer

    @property
    def _unanswered(self) -> RequestResponseCycle | None:
        cycle: RequestResponseCycle | None = self.cycle
        return None if cycle is None or cycle.response_complete else cycle

    def _reject(self, answer: errors.Answer) -> None:
        """Send this answer, unless an answer has begun, and close the connection."""
        if self.transport.is_closing() or self._refused:
            return
        if self.pipeline:
            self.transport.abort()  # the answer would be taken for that of an earlier request
            return
        if self._unanswered is None or not self._unanswered.response_started:
            status = HTTPStatus(answer.status)
            headers = {**answer.headers, "content-length": str(len(answer.body)), "connection": "close"}
            whole = completed(((name.encode(), value.encode()) for name, value in headers.items()), ())
            lines = b"".join(b"%b: %b\r\n" % pair for pair in whole)
            self.transport.write(f"HTTP/1.1 {status} {status.phrase}\r\n".encode() + lines + b"\r\n" + answer.body)
        self._linger()

    def _linger(self) -> None:
        """Close the connection for writing, and drop what arrives until the client closes it, but not for long."""
        if self._refused or self.transport.is_closing():
            return
        self._refused = True
        self.parser = None  # type: ignore[assignment]  # with what it holds of a head
        self._lobby.head_done(self)
        if self._unanswered is not None:
            self._unanswered.disconnected = True
            self._unanswered.message_event.set()
        if not self._lobby.may_linger(self):
            self.transport.abort()
            return
        self._dropped = 0
        self.transport.write_eof()
        self.flow.resume_reading()
        self._until_closed = self.loop.call_later(LINGER, self.transport.abort)


class _Answers:
    """The transport as uvicorn sees it while it answers: its close leaves time to read the answer."""

    __slots__ = ("_connection", "is_closing", "write")

    def __init__(self, connection: ClientConnection) -> None:
        self._connection = connection
        self.write = connection.transport.write
        self.is_closing = connection.transport.is_closing

    def close(self) -> None:
        self._connection.hang_up()


def _problem(status: HTTPStatus, detail: str) -> errors.Answer:
    body = errors.problem_body(status, errors.TITLES.get(status, status.phrase), detail)
    return errors.Answer(status, {"content-type": errors.PROBLEM}, body)
