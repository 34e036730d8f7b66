"""Ports for pods: below those that the kernel gives to outgoing connections.

They are given out in turn, so that the port of a pod that is gone is not soon another pod's: for a moment somebody may
still know the address of the one that is gone.
"""

from __future__ import annotations

import itertools
import random
import socket
from collections.abc import Iterator

from session_manager.domain.errors import PodCannotStart

LOOPBACK = "127.0.0.1"
RANGE = range(20_000, 32_000)


class Ports:
    def __init__(self) -> None:
        self._taken: set[int] = set()
        start = random.choice(RANGE)
        self._in_turn: Iterator[int] = itertools.cycle((*range(start, RANGE.stop), *range(RANGE.start, start)))

    def take(self) -> int:
        """A port on which nothing listens now. Somebody else may still be faster than the pod: see ``in_use``."""
        for port in itertools.islice(self._in_turn, len(RANGE)):
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
