"""Server-sent events, as a pod streams them."""

from __future__ import annotations

from collections.abc import Iterator

from session_manager.domain.errors import PodRejected
from session_manager.podclient.connection import MAX_REPLY

MAX_EVENT = 1024 * 1024


class EventParser:
    """Takes bytes as they come; gives (event, data). PodRejected past ``limit`` without an end, of a reply 8 MiB."""

    def __init__(self, limit: int = MAX_EVENT) -> None:
        self._limit = limit
        self._line = bytearray()
        self._event = b""
        self._data: list[bytes] = []
        self._size = 0
        self._after_cr = False

    def feed(self, chunk: bytes) -> Iterator[tuple[str, str]]:
        if self._after_cr and chunk.startswith(b"\n"):
            chunk = chunk[1:]
        self._after_cr = chunk.endswith(b"\r")
        *lines, rest = chunk.replace(b"\r\n", b"\n").replace(b"\r", b"\n").split(b"\n")
        for line in lines:
            self._line += line
            whole = bytes(self._line)
            self._line.clear()
            self._size += len(whole)
            if whole:
                self._take_line(whole)
            elif (event := self._end()) is not None:
                yield event
        self._line += rest
        limit = MAX_REPLY if self._event == b"reply" else self._limit
        if self._size + len(self._line) > limit:
            raise PodRejected(f"an event of the pod's stream is longer than {limit} bytes")

    def finish(self) -> tuple[str, str] | None:
        """The event that the stream ended in; None when there is none."""
        self._take_line(bytes(self._line))
        return self._end()

    def _end(self) -> tuple[str, str] | None:
        """The event that has arrived; None when it has no data."""
        event, data = self._event, self._data
        self._event, self._data, self._size = b"", [], 0
        if not data:
            return None
        return event.decode("utf-8", "replace"), b"\n".join(data).decode("utf-8", "replace")

    def _take_line(self, line: bytes) -> None:
        field, _, value = line.partition(b":")
        value = value.removeprefix(b" ")
        if field == b"data":
            self._data.append(value)
        elif field == b"event":
            self._event = value
