"""Ports for pods: which one to use next, and which process listens on one.

The ports are below those that the kernel gives to outgoing connections. They are used in turn, so that a port is not
reused soon: for a moment a front door may still have the address of the pod that used it before.

A port is free when a pod is started, but another process may take it before the pod listens. That process would then
answer the probe and receive the session's messages, so the runtime checks who listens.
"""

from __future__ import annotations

import itertools
import os
import random
import socket
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from session_manager.domain.errors import PodCannotStart

LOOPBACK = "127.0.0.1"
RANGE = range(20_000, 32_000)
_LISTEN = b"0A"


class Ports:
    def __init__(self) -> None:
        self._taken: set[int] = set()
        start = random.choice(RANGE)
        self._in_turn: Iterator[int] = itertools.cycle((*range(start, RANGE.stop), *range(RANGE.start, start)))

    def take(self) -> int:
        """Return a port on which no process listens now. Another process may still take it before the pod does."""
        for port in itertools.islice(self._in_turn, len(RANGE)):
            if port not in self._taken and not in_use(port):
                self._taken.add(port)
                return port
        raise PodCannotStart("NoFreePort", "this machine has no free port left; end some processes that listen")

    def give_back(self, port: int) -> None:
        self._taken.discard(port)


def in_use(port: int) -> bool:
    """Return True if a process listens on this loopback port."""
    with socket.socket() as trial:
        trial.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            trial.bind((LOOPBACK, port))
        except OSError:
            return True
    with socket.socket() as trial:  # some systems allow one listener for all addresses and another for this one
        trial.settimeout(0.1)
        return trial.connect_ex((LOOPBACK, port)) == 0


def pod_listens(leader: int, port: int) -> bool | None:
    """Return True if a process in the leader's process session listens on the port, or None if there is no /proc."""
    try:
        sockets = {f"socket:[{inode}]" for table in ("tcp", "tcp6") for inode in _listening(table, port)}
    except FileNotFoundError:
        return None
    return any(_has_open(pid, sockets) for pid in _processes_of(leader))


def _listening(table: str, port: int) -> Iterator[int]:
    """Yield the inodes of sockets that listen on the port. The kernel lists listening sockets before all others."""
    suffix = b":%04X" % port
    with Path(f"/proc/net/{table}").open("rb") as lines:
        next(lines)
        for line in lines:
            _, local, _, state, _, _, _, _, _, inode, *_ = line.split()
            if state != _LISTEN:
                return
            if local.endswith(suffix):
                yield int(inode)


def _processes_of(leader: int) -> Iterator[int]:
    yield leader
    for name in os.listdir("/proc"):  # noqa: PTH208  a Path for each is slow
        with suppress(OSError):  # it has ended
            if name.isdigit() and os.getsid(int(name)) == leader:
                yield int(name)


def _has_open(pid: int, sockets: set[str]) -> bool:
    with suppress(OSError):
        for descriptor in os.listdir(f"/proc/{pid}/fd"):  # noqa: PTH208  it leaves nothing open when it ends early
            with suppress(OSError):
                if os.readlink(f"/proc/{pid}/fd/{descriptor}") in sockets:  # noqa: PTH115
                    return True
    return False
