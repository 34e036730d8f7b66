"""Who listens on a port?

The port of a pod is free when the pod is started, but somebody else may take it before the pod listens.  Then the probe
would be answered, by a stranger, and the session's messages would go there.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

_LISTEN = b"0A"


def pod_listens(leader: int, port: int) -> bool | None:
    """Whether a process of the leader's session listens on the port; None where there is no /proc to tell."""
    try:
        sockets = {f"socket:[{inode}]" for table in ("tcp", "tcp6") for inode in _listening(table, port)}
    except FileNotFoundError:
        return None
    return any(_has_open(pid, sockets) for pid in _processes_of(leader))


def _listening(table: str, port: int) -> Iterator[int]:
    """Inodes of the sockets that listen on the port. The kernel lists those that listen before all others."""
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
    for name in os.listdir("/proc"):  # noqa: PTH208 - a Path for each is slow
        if name.isdigit() and _session_of(name) == leader:
            yield int(name)


def _session_of(pid: str) -> int | None:
    try:
        return int(Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()[3])
    except OSError:
        return None


def _has_open(pid: int, sockets: set[str]) -> bool:
    with suppress(OSError):
        for descriptor in os.listdir(f"/proc/{pid}/fd"):  # noqa: PTH208 - nothing is left open when it ends early
            with suppress(OSError):
                if os.readlink(f"/proc/{pid}/fd/{descriptor}") in sockets:  # noqa: PTH115
                    return True
    return False
