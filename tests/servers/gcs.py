"""A real server of Google Cloud Storage's API on loopback: fake-gcs-server, which hack/test-tools builds with Go."""

from __future__ import annotations

import ctypes
import signal
import socket
import subprocess
import sys
import time

from tests.servers.ports import free_port
from tests.servers.tools import tool

START_WITHIN = 30.0  # seconds


class GcsServer:
    """A context manager. ``host`` is the value for STORAGE_EMULATOR_HOST. Objects are kept in memory."""

    def __init__(self) -> None:
        self._program = tool("fake-gcs-server")
        self._port = free_port()
        self._process: subprocess.Popen[bytes] | None = None
        self._buckets = 0

    def __enter__(self) -> GcsServer:
        options = ["-scheme=http", "-host=127.0.0.1", f"-port={self._port}", "-backend=memory", "-log-level=error"]
        public = [f"-public-host={self.host}", f"-external-url=http://{self.host}"]
        self._process = subprocess.Popen(
            [self._program, *options, *public],
            stdin=subprocess.DEVNULL,
            preexec_fn=_end_with_parent,  # noqa: PLW1509  it only makes one system call
        )
        deadline = time.monotonic() + START_WITHIN
        while not self._answers():
            assert self._process.poll() is None, "fake-gcs-server ended"
            assert time.monotonic() < deadline, "fake-gcs-server does not answer"
            time.sleep(0.02)
        return self

    def __exit__(self, *_: object) -> None:
        assert self._process is not None
        self._process.kill()
        self._process.wait()

    @property
    def host(self) -> str:
        return f"127.0.0.1:{self._port}"

    @property
    def port(self) -> int:
        return self._port

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def bucket(self) -> str:
        """Return an unused name. The bucket does not exist yet."""
        self._buckets += 1
        return f"bucket-{self._buckets}"

    def _answers(self) -> bool:
        try:
            with socket.create_connection(("127.0.0.1", self._port), 0.2):
                return True
        except OSError:
            return False


def _end_with_parent() -> None:
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(1, signal.SIGKILL)
