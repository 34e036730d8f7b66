"""A hostile pod: the answer to every message is an endless stream of the pieces that the message names."""

from __future__ import annotations

import json
import os
import socket
import threading
from contextlib import suppress

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}"
HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


PIECES = {
    "comments in chunks of a byte": b"1\r\n:\r\n" * 10_000,
    "empty lines": chunk(b"\n" * 65_536),
    "deltas": chunk(b"data: 1\n\n" * 5_000),
    "long deltas": chunk(b'data: "' + b"x" * 900_000 + b'"\n\n'),
    "objects": chunk(b'data: {"a": [' + b"{}," * 300_000 + b"1]}\n\n"),
}


def serve(connection: socket.socket) -> None:
    with connection, suppress(OSError):
        reader = connection.makefile("rb")
        while line := reader.readline():
            length = 0
            while (header := reader.readline().strip()) != b"":
                name, _, value = header.partition(b":")
                length = int(value) if name.lower() == b"content-length" else length
            body = reader.read(length)
            if not line.startswith(b"POST"):
                connection.sendall(OK)
                continue
            pieces = PIECES[json.loads(body)["message"]]
            connection.sendall(HEAD)
            while True:
                connection.sendall(pieces)


if __name__ == "__main__":
    with socket.create_server((os.environ.get("HOST", "127.0.0.1"), int(os.environ["PORT"]))) as server:
        while True:
            threading.Thread(target=serve, args=(server.accept()[0],), daemon=True).start()
