"""Ports for pods: below those that the kernel gives to outgoing connections, and never one twice."""

from __future__ import annotations

import random
import socket

from session_manager.domain.errors import PodCannotStart

LOOPBACK = "127.0.0.1"
RANGE = range(20_000, 32_000)
TRIES = 200


class Ports:
    def __init__(self) -> None:
        self._taken: set[int] = set()

    def take(self) -> int:
        """A port on which nothing listens now. Somebody else may still be faster than the pod: see ``in_use``."""
        for _ in range(TRIES):
            port = random.choice(RANGE)
            if port not in self._taken and not in_use(port):
                self._taken.add(port)
                return port
        raise PodCannotStart("NoFreePort", "this machine has no free port left; end some processes that listen")

    def give_back(self, port: int) -> None:
        self._taken.discard(port)


def in_use(port: int) -> bool:
    """Whether a process listens on this loopback port."""
    with socket.socket() as trial:
        trial.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            trial.bind((LOOPBACK, port))
        except OSError:
            return True
    with socket.socket() as trial:  # where a port may be bound once for all addresses and once for this one
        trial.settimeout(0.1)
        return trial.connect_ex((LOOPBACK, port)) == 0
