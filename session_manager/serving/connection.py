"""One client's connection, with the limits that uvicorn does not have.

A request must arrive in full within ``request_timeout`` seconds, and bytes that are neither a body nor a complete head
are held up to a size. So no client keeps a connection or takes memory by sending slowly or endlessly. Errors have the
form of every other error.

Only the head of a request has headers: a trailer comes after a proxy has checked the head, so it is dropped. A request
to switch to another protocol is answered like any other.
"""

from __future__ import annotations

import asyncio
import sys
from http import HTTPStatus
from typing import Any

import httptools
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from session_manager.api import errors
from session_manager.serving.heads import Fault, fault_of

MAX_HEAD = 64 * 1024  # bytes, give or take one read from the socket


class ClientConnection(HttpToolsProtocol):
    def __init__(self, *args: Any, request_timeout: float, **more: Any) -> None:
        super().__init__(*args, **more)
        self._request_timeout = request_timeout
        self._since: float | None = None  # when the request began, if it has not arrived in full
        self._unread = 0  # bytes since the last piece of a body or the last complete head
        self._advanced = False
        self._in_head = False
        self._watch: asyncio.TimerHandle | None = None
        self._fault: Fault | None = None  # what is wrong with the present head
        self._received = b""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._since = self.loop.time()
        self._check_in(self._request_timeout)

    def connection_lost(self, exc: Exception | None) -> None:
        if self._watch is not None:
            self._watch.cancel()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self._since is None:
            self._since = self.loop.time()
        self._advanced = False
        self._received = data
        super().data_received(data)
        self._unread = 0 if self._advanced else self._unread + len(data)
        if self._unread > MAX_HEAD:
            self._reject(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, "the head of a request must be 64 KiB or less")

    def on_message_begin(self) -> None:
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
        self._fault = fault_of(self.parser.get_http_version(), self.url, self.headers)
        if self.parser.should_upgrade() and self._unanswered is not None:
            self._fault = Fault(HTTPStatus.BAD_REQUEST, "Upgrade: must not be in a request sent before an answer came")
        if self._fault is not None:
            raise ValueError  # the parser gives up, and send_400_response is called
        if not self.parser.should_upgrade():
            super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        self._advanced = True
        super().on_body(body)

    def on_message_complete(self) -> None:
        if self.parser.should_upgrade():
            return
        self._since = None
        self._advanced = True
        super().on_message_complete()

    def send_400_response(self, msg: str) -> None:
        self._reject(*(self._fault or Fault(HTTPStatus.BAD_REQUEST, "invalid request; expected HTTP/1.1")))

    def _unsupported_upgrade_warning(self) -> None:
        """Parse the request again without its Upgrade header. uvicorn calls this at the end of such a head.

        The parser leaves what follows to the other protocol. Java's HttpClient asks for HTTP/2 in this way, also where
        a body follows.
        """
        upgrade = sys.exception()
        rest = self._received[upgrade.args[0] :] if isinstance(upgrade, httptools.HttpParserUpgrade) else b""
        lines = [name + b": " + value for name, value in self.headers if name != b"upgrade"]
        first = b"%b %b HTTP/%b" % (self.parser.get_method(), self.url, self.parser.get_http_version().encode())
        self.parser = httptools.HttpRequestParser(self)
        self.parser.set_dangerous_leniencies(lenient_data_after_close=True)  # like uvicorn's
        self.data_received(b"\r\n".join([first, *lines, b"", rest]))

    def _check_in(self, seconds: float) -> None:
        self._watch = self.loop.call_later(seconds, self._check)

    def _check(self) -> None:
        """Close the connection if a request is late. There is one timer per connection, not per request."""
        present = self._unanswered
        if self._since is None or (present is not None and not present.more_body):
            self._check_in(self._request_timeout)  # pipelined requests wait behind the one that is answered now
        elif (left := self._since + self._request_timeout - self.loop.time()) > 0:
            self._check_in(left)
        elif self._in_head or present is not None:
            self._reject(HTTPStatus.REQUEST_TIMEOUT, f"a request must arrive within {self._request_timeout:g} s")
        else:
            self.transport.close()  # the client sent nothing, or has its answer

    @property
    def _unanswered(self) -> RequestResponseCycle | None:
        cycle: RequestResponseCycle | None = self.cycle
        return None if cycle is None or cycle.response_complete else cycle

    def _reject(self, status: HTTPStatus, detail: str) -> None:
        """Send this error, unless an answer has begun, and close the connection."""
        if self.transport.is_closing():
            return
        if self._unanswered is None or not self._unanswered.response_started:
            body = errors.problem_body(status, errors.TITLES.get(status, status.phrase), detail)
            head = f"HTTP/1.1 {status.value} {status.phrase}\r\ncontent-type: {errors.PROBLEM}\r\n"
            self.transport.write(f"{head}content-length: {len(body)}\r\nconnection: close\r\n\r\n".encode() + body)
        self.transport.close()
