"""Ends the pods that a killed owner left running.

On Linux, a process of a pod is recognised by its environment, which has a HOME in our folder, and maybe a session. A
process that changed its environment is recognised by the record and the kernel's start time. A pid alone is not
enough: it may belong to another process by now.
"""

from __future__ import annotations

import json
import os
import re
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from session_manager.domain.errors import StartupFailure
from session_manager.runtime.process.folders import Folders
from session_manager.runtime.process.keeper import environment_of, started

END_WITHIN = 10.0
POLL = 0.02
PATIENCE = 1.0  # seconds for processes to end after SIGKILL, before they are looked for again
CLOCK_SLACK = 2.0  # seconds, since ``ps`` shows whole ones


@dataclass(frozen=True, slots=True)
class Record:
    """The record of a pod: the leader's pid, its start time by the kernel (Linux only) and by the clock (seconds)."""

    pid: int
    started: int | None
    at: float


def end_leftovers(folders: Folders) -> None:
    """Kill the leftovers, and remove their records and temporary files. Raises StartupFailure if one does not end."""
    deadline = time.monotonic() + END_WITHIN
    records = list(read_records(folders.run))
    late = False
    while kill_leftovers(folders, records):
        if late:
            raise StartupFailure(f"Processes of an earlier owner do not end; see the records in {folders.run}")
        late = time.monotonic() > deadline
        time.sleep(POLL)
    for file in folders.run.iterdir():
        file.unlink(missing_ok=True)
    folders.clear_pods()


def read_records(folder: Path) -> Iterator[Record]:
    """Yield the records that are readable. A process without one is found by its environment."""
    for file in folder.glob("*.json"):
        with suppress(ValueError, KeyError, TypeError):
            record = json.loads(file.read_bytes())
            yield Record(int(record["pid"]), record["started"], float(record["at"]))


def kill_leftovers(folders: Folders, records: list[Record]) -> bool:
    """Send SIGKILL to each leftover, and wait for all of them to end. Return True if there was one."""
    if sys.platform != "linux":
        return sum(map(_kill_by_ps, records)) > 0
    leaders = {record.pid for record in records if record.started == started(record.pid) is not None}
    pids = [int(name) for name in os.listdir("/proc") if name.isdigit()]  # noqa: PTH208  a Path for each is slow
    killed = [found for pid in pids if (found := _kill_if_ours(pid, folders, leaders)) is not None]
    try:
        _until_ended(killed)
    finally:
        for descriptor in killed:
            os.close(descriptor)
    return bool(killed)


def _kill_if_ours(pid: int, folders: Folders, leaders: set[int]) -> int | None:
    """Kill the process and return its descriptor, or return None if it is not a leftover or has ended."""
    with suppress(OSError):
        descriptor = os.pidfd_open(pid)
        with suppress(OSError):
            # The descriptor stays with this process, even if its pid is reused.
            if not _ended([descriptor], 0) and (_has_our_environment(pid, folders) or os.getpgid(pid) in leaders):
                signal.pidfd_send_signal(descriptor, signal.SIGKILL)
                return descriptor
        os.close(descriptor)
    return None


def _until_ended(descriptors: list[int]) -> None:
    """Wait for the processes, since one that is ending has no environment to recognise it by."""
    deadline = time.monotonic() + PATIENCE
    left = set(descriptors)
    while left and (seconds := deadline - time.monotonic()) > 0:
        left -= _ended(left, seconds)


def _ended(descriptors: Iterable[int], seconds: float) -> set[int]:
    """Wait until one of the processes has ended. Return the descriptors of those that have."""
    waiting = select.poll()
    for descriptor in descriptors:
        waiting.register(descriptor, select.POLLIN)
    return {descriptor for descriptor, _ in waiting.poll(seconds * 1000)}


def _has_our_environment(pid: int, folders: Folders) -> bool:
    """Return True if the environment is a pod's. That of another user's process is unreadable."""
    entries = environment_of(pid)
    pod_home = re.compile(rb"HOME=" + re.escape(bytes(folders.pods)) + rb"/[-0-9a-f]{36}/home")
    if any(map(pod_home.fullmatch, entries)):
        return True
    session = next((entry[11:] for entry in entries if entry.startswith(b"SESSION_ID=")), None)
    return session is not None and b"HOME=" + bytes(folders.homes) + b"/" + session in entries


def _kill_by_ps(record: Record) -> bool:
    """Kill the record's group if its leader is as old as the record. For systems without /proc."""
    # One -o per column: for the ps of BSD and macOS, everything after "stat=" is a header.
    command = ["ps", "-o", "stat=", "-o", "lstart=", "-p", str(record.pid)]
    env = os.environ | {"LC_ALL": "C"}
    shown = subprocess.run(command, capture_output=True, text=True, env=env, check=False).stdout
    state, _, when = shown.strip().partition(" ")
    if not when or state.startswith("Z"):
        return False
    began = time.mktime(time.strptime(when.strip(), "%a %b %d %H:%M:%S %Y"))
    if abs(began - record.at) > CLOCK_SLACK:
        return False
    with suppress(OSError):
        os.killpg(record.pid, signal.SIGKILL)
    return True
