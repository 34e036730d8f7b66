"""HTTP/1.1 as a pod needs it: requests with a Content-Length, answers with a length or in chunks.

This uses neither dataclasses nor ``http``: importing them takes longer than the rest of a pod's start.
"""

from __future__ import annotations

import json
import socket

MAX_HEAD = 64 * 1024
MAX_BODY = 8 * 1024 * 1024  # a message of 1 MiB, in JSON, where a byte may take six
_PHRASES = {
    200: "OK",
    400: "Bad Request",
    404: "Not Found",
    405: "Method Not Allowed",
    411: "Length Required",
    413: "Content Too Large",
    421: "Misdirected Request",
    431: "Request Header Fields Too Large",
    500: "Internal Server Error",
    503: "Service Unavailable",
}
_JSON = "Content-Type: application/json\r\nContent-Length: %d\r\n"
_STREAM = "Content-Type: text/event-stream\r\nCache-Control: no-store\r\nTransfer-Encoding: chunked\r\n\r\n"
_CLOSE = "Connection: close\r\n"


class BadRequest(Exception):
    """An invalid request. It is answered with ``status``, and the connection is closed."""

    def __init__(self, status: int, detail: str) -> None:
        super().__init__(detail)
        self.status = status
        self.detail = detail


class PeerGone(Exception):
    """The connection broke. The front door sends the message again."""


class Request:
    """``headers`` are by lower-case name. ``keep_alive``: the peer may send another request."""

    __slots__ = ("body", "headers", "keep_alive", "method", "path")

    def __init__(self, method: str, path: str, headers: dict[str, str], body: bytes, keep_alive: bool) -> None:
        self.method = method
        self.path = path
        self.headers = headers
        self.body = body
        self.keep_alive = keep_alive


class HttpConnection:
    """Reads requests from a blocking socket and writes answers to it."""

    def __init__(self, peer: socket.socket) -> None:
        peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._peer = peer
        self._buffer = b""

    def read(self) -> Request | None:
        """Return the next request, or None if the peer has closed the connection. Raises BadRequest and PeerGone."""
        head = self._read_head()
        if head is None:
            return None
        method, path, version, headers = _parse_head(head)
        length = _body_length(headers)
        if length > MAX_BODY:
            raise BadRequest(413, f"body too large; expected {MAX_BODY} bytes or less")
        if headers.get("expect", "").lower() == "100-continue":
            self._send(b"HTTP/1.1 100 Continue\r\n\r\n")
        body = self._read_body(length)
        connection = headers.get("connection", "").lower()
        keep_alive = connection != "close" if version == "HTTP/1.1" else connection == "keep-alive"
        return Request(method, path, headers, body, keep_alive)

    def _read_head(self) -> bytes | None:
        while (end := self._buffer.find(b"\r\n\r\n", 0, MAX_HEAD)) < 0:
            if len(self._buffer) >= MAX_HEAD:
                raise BadRequest(431, f"headers too large; expected {MAX_HEAD} bytes or less")
            data = self._receive(65536)
            if not data:
                return None
            self._buffer += data
        head, self._buffer = self._buffer[:end], self._buffer[end + 4 :]
        return head

    def _read_body(self, length: int) -> bytes:
        if len(self._buffer) < length:
            parts = [self._buffer]
            missing = length - len(self._buffer)
            while missing > 0:
                data = self._receive(min(missing, 262144))
                if not data:
                    raise PeerGone
                parts.append(data)
                missing -= len(data)
            self._buffer = b"".join(parts)
        body, self._buffer = self._buffer[:length], self._buffer[length:]
        return body

    def answer(self, status: int, value: object, keep_alive: bool = True, headers: str = "") -> None:
        """Send ``value`` as JSON."""
        body = json.dumps(value).encode()
        head = f"{_status_line(status)}{_JSON % len(body)}{headers}{'' if keep_alive else _CLOSE}\r\n"
        self._send(head.encode("latin-1") + body)

    def reject(self, error: BadRequest) -> None:
        """Send the error, and read what the peer still sends: closing with unread bytes would discard the answer."""
        self.answer(error.status, {"error": error.detail}, keep_alive=False)
        rest = MAX_BODY
        try:
            self._peer.settimeout(1.0)
            self._peer.shutdown(socket.SHUT_WR)
            while rest > 0 and (data := self._peer.recv(65536)):
                rest -= len(data)
        except OSError:
            pass

    def start_stream(self) -> None:
        """Begin a chunked answer of server-sent events."""
        self._send((_status_line(200) + _STREAM).encode())

    def send_event(self, event: str, value: object, last: bool = False) -> None:
        data = f"event: {event}\ndata: {json.dumps(value)}\n\n".encode()
        self._send(b"%x\r\n%b\r\n%b" % (len(data), data, b"0\r\n\r\n" if last else b""))

    def _receive(self, size: int) -> bytes:
        try:
            return self._peer.recv(size)
        except OSError:
            raise PeerGone from None

    def _send(self, data: bytes) -> None:
        try:
            self._peer.sendall(data)
        except OSError:
            raise PeerGone from None


def _status_line(status: int) -> str:
    return f"HTTP/1.1 {status} {_PHRASES[status]}\r\n"


def _parse_head(head: bytes) -> tuple[str, str, str, dict[str, str]]:
    first, *lines = head.decode("latin-1").split("\r\n")
    try:
        method, target, version = first.split(" ")
        fields = [_parse_header(line) for line in lines]
    except ValueError:
        raise BadRequest(400, "invalid request; expected HTTP/1.1") from None
    if version not in {"HTTP/1.1", "HTTP/1.0"}:
        raise BadRequest(400, "invalid version; expected HTTP/1.1")
    headers = dict(fields)
    if len(headers) < len(fields) and sum(name == "content-length" for name, _ in fields) > 1:
        raise BadRequest(400, "Content-Length must not be repeated")
    return method, target.partition("?")[0], version, headers


def _parse_header(line: str) -> tuple[str, str]:
    name, colon, value = line.partition(":")
    if not colon or not name or name != name.strip():
        raise ValueError(line)
    return name.lower(), value.strip()


def _body_length(headers: dict[str, str]) -> int:
    if "transfer-encoding" in headers:
        raise BadRequest(411, "Transfer-Encoding is not supported; send a Content-Length")
    length = headers.get("content-length", "0")
    if not (length.isascii() and length.isdigit()):
        raise BadRequest(400, "invalid Content-Length; expected a number")
    return int(length[:10])  # a longer number is over the limit anyway
