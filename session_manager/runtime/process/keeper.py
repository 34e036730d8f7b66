"""The keeper: a small process that starts, holds and ends the pods of one owner.

It ends every pod when its connection to the owner breaks, so no pod outlives an owner, however that dies. It holds the
owner's lock on the data folder until all pods are gone. It has one thread, so forking is safe, and little memory, so
forking is fast. Orphans of a pod become its own children, so that it notices their end. If the keeper itself is killed,
the kernel kills the pods (Linux), and the owner, or the next one, finds the others.

It runs as a script without site-packages and imports nothing of this package. Messages are JSON lines:

* from the owner: ``spawn`` {pod, mark, command, env, cwd, log, record}, ``claim`` {pod, log, record},
  ``stop`` {pod, grace}; the mark is the entry of env that only processes of this pod have
* to the owner: ``ready``, ``spawned`` {pod, pid}, ``refused`` {pod, missing, error}, ``claimed`` {pod},
  ``gone`` {pod, status, printed}; the status is as from waitpid
"""

from __future__ import annotations

import ctypes
import json
import os
import resource
import selectors
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Container
from contextlib import suppress
from io import FileIO
from pathlib import Path
from typing import Any, cast

POLL = 0.01  # seconds between checks of a group that is ending, since the kernel does not report its end
CHUNK = 65536
MAX_PIPE = 1024 * 1024  # bytes that a pipe can hold
MAX_LOG = 1024 * 1024  # bytes; one older file of this size is kept as well
PR_SET_PDEATHSIG, PR_SET_CHILD_SUBREAPER = 1, 36
LINUX = sys.platform == "linux"
prctl = ctypes.CDLL(None).prctl if LINUX else None


class Pod:
    """A process group. ``status`` is the leader's, once it has ended; ``deadline`` is the time of SIGKILL."""

    def __init__(self, name: str, mark: str, process: subprocess.Popen[bytes], log: str, record: str) -> None:
        self.name = name
        self.mark = os.fsencode(mark)
        self.pid = process.pid
        self.output = cast("FileIO", process.stdout)
        self.log = Path(log)
        self.record = Path(record)
        self.status: int | None = None
        self.deadline: float | None = None
        self.printed = False
        self.silent = False  # it has closed its output
        self.escaped: set[int] = set()  # its processes that left the group and were killed

    def signal(self, number: int) -> bool:
        """Signal the group. Return False if it has no process left."""
        try:
            os.killpg(self.pid, number)
        except ProcessLookupError:
            return False
        except PermissionError:  # macOS, for a group of zombies
            return number == 0
        return True

    def copy_output(self) -> bool:
        """Copy a piece of output to the log. Return False if there is no more for now."""
        data = self.output.read(CHUNK)  # None if there is nothing to read now
        if data:
            self.printed = True
            append(self.log, data)
        self.silent = data == b""
        return bool(data)


class Keeper:
    def __init__(self, owner: socket.socket) -> None:
        self._owner = owner
        self._buffer = b""
        self._pods: dict[str, Pod] = {}
        self._selector = selectors.DefaultSelector()
        self._selector.register(owner, selectors.EVENT_READ, self._receive)
        self._files = raise_file_limit()  # those that pods get

    def run(self) -> None:
        """Serve the owner until the connection breaks, then end every pod."""
        self._wake_on_children()
        try:
            self._send(op="ready")
            while True:
                for key, _ in self._selector.select(self._patience()):
                    key.data()
                self._reap()
                for pod in list(self._pods.values()):
                    self._advance(pod)
        except (ConnectionError, EOFError):
            self._end_everything()

    def _wake_on_children(self) -> None:
        reading, writing = os.pipe()
        os.set_blocking(reading, False)
        os.set_blocking(writing, False)
        signal.set_wakeup_fd(writing, warn_on_full_buffer=False)
        # Handlers and not SIG_IGN, which pods would inherit. Only the owner ends a keeper: a service manager signals
        # all processes at once, and that must not end pods with running turns.
        for number in (signal.SIGCHLD, signal.SIGTERM, signal.SIGINT, signal.SIGQUIT, signal.SIGHUP):
            signal.signal(number, lambda number, frame: None)
        self._selector.register(reading, selectors.EVENT_READ, lambda: os.read(reading, CHUNK))

    def _patience(self) -> float | None:
        if any(pod.status is not None for pod in self._pods.values()):
            return POLL
        deadlines = [pod.deadline for pod in self._pods.values() if pod.deadline is not None]
        return max(0.0, min(deadlines) - time.monotonic()) if deadlines else None

    def _receive(self) -> None:
        if not (data := self._owner.recv(CHUNK)):
            raise EOFError
        *lines, self._buffer = (self._buffer + data).split(b"\n")
        for line in lines:
            request = json.loads(line)
            getattr(self, "_on_" + request.pop("op"))(**request)

    def _send(self, **message: object) -> None:
        self._owner.sendall(json.dumps(message).encode() + b"\n")

    def _on_spawn(self, pod: str, mark: str, log: str, record: str, **process: Any) -> None:
        try:
            child = self._start(pod, record, **process)
        except (OSError, ValueError, subprocess.SubprocessError) as error:
            Path(record).unlink(missing_ok=True)
            missing = isinstance(error, FileNotFoundError)
            self._send(op="refused", pod=pod, missing=missing, error=getattr(error, "strerror", None) or str(error))
        else:
            new = self._pods[pod] = Pod(pod, mark, child, log, record)
            os.set_blocking(new.output.fileno(), False)
            self._selector.register(new.output, selectors.EVENT_READ, lambda: self._copy(new))
            self._send(op="spawned", pod=pod, pid=new.pid)

    def _start(self, pod: str, record: str, command: list[str], **place: Any) -> subprocess.Popen[bytes]:
        """Start the command. ``place``: its env and its cwd."""
        keeper, files = os.getpid(), self._files

        def in_child() -> None:
            if prctl is not None:
                prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
                if os.getppid() != keeper:
                    os._exit(1)
            resource.setrlimit(resource.RLIMIT_NOFILE, files)
            write_record(record, pod)

        process = subprocess.Popen(
            command,
            bufsize=0,
            **place,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            preexec_fn=in_child,  # noqa: PLW1509  one thread
        )
        process.returncode = 0  # _reap waits for it, not this object
        return process

    def _copy(self, pod: Pod) -> None:
        pod.copy_output()
        if pod.silent:
            self._selector.unregister(pod.output)

    def _on_claim(self, pod: str, log: str, record: str) -> None:
        self._reap()
        found = self._pods.get(pod)
        if found is None or found.status is not None:
            return  # "gone" is on its way
        with suppress(OSError):
            found.record = found.record.replace(record)
        moved = Path(log)
        for file in (older(found.log), found.log):
            with suppress(OSError):
                append(moved, file.read_bytes())
                file.unlink()
        found.log = moved
        self._send(op="claimed", pod=pod)

    def _on_stop(self, pod: str, grace: float) -> None:
        found = self._pods.get(pod)
        if found is None:
            return  # "gone" is on its way
        found.signal(signal.SIGTERM if grace > 0 else signal.SIGKILL)
        found.deadline = time.monotonic() + grace

    def _reap(self) -> None:
        by_pid = {pod.pid: pod for pod in self._pods.values()}
        with suppress(ChildProcessError):
            while ended := ended_child():
                pid, status = ended
                pod = by_pid.get(pid)
                if pod is not None:
                    # The rest of the group ends with the leader, as in a container. This happens before the leader is
                    # reaped: until then its pid, the name of the group, is not reused.
                    pod.signal(signal.SIGKILL)
                if status is None:
                    _, status = os.waitpid(pid, 0)
                if pod is not None:
                    pod.status = status

    def _advance(self, pod: Pod) -> None:
        if pod.status is None:
            if pod.deadline is not None and time.monotonic() >= pod.deadline:
                pod.signal(signal.SIGKILL)
                pod.deadline = None
            return
        if pod.signal(0):
            return
        pod.escaped = kill_escaped({other.pid for other in self._pods.values()}, pod.mark, pod.escaped)
        if pod.escaped:
            return
        self._forget(pod)
        self._send(op="gone", pod=pod.name, status=pod.status, printed=pod.printed)

    def _forget(self, pod: Pod) -> None:
        if not pod.silent:
            self._selector.unregister(pod.output)
        for _ in range(MAX_PIPE // CHUNK):  # a writer that escaped must not delay the end
            if not pod.copy_output():
                break
        pod.output.close()
        pod.record.unlink(missing_ok=True)
        del self._pods[pod.name]

    def _end_everything(self) -> None:
        for pod in self._pods.values():
            pod.signal(signal.SIGKILL)
        with suppress(ChildProcessError):
            while True:
                self._reap()  # first: the orphans of a leader that is reaped here are looked for before the wait
                kill_escaped({pod.pid for pod in self._pods.values()})
                ended_child(wait=True)
        for pod in list(self._pods.values()):
            self._forget(pod)


def older(log: Path) -> Path:
    """Return the file that keeps the output before that in ``log``."""
    return log.with_suffix(".log.1")


def append(log: Path, data: bytes) -> None:
    """Write output to a file of limited size. On a full disk output is lost, and pods continue."""
    # Opened each time, so that no pod needs a descriptor, and a removed file is created again.
    with suppress(OSError), os.fdopen(os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600), "ab", 0) as file:
        file.write(data)
        if file.tell() > MAX_LOG:
            log.replace(older(log))


def ended_child(wait: bool = False) -> tuple[int, int | None] | None:
    """Return the pid of a child that ended, or None: on Linux not reaped yet, elsewhere reaped, with its status.

    Raises ChildProcessError if there are no children at all.
    """
    how = 0 if wait else os.WNOHANG
    if LINUX:
        ended = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOWAIT | how)
        return (ended.si_pid, None) if ended else None
    pid, status = os.waitpid(-1, how)
    return (pid, status) if pid else None


def kill_escaped(leaders: set[int], mark: bytes = b"", before: Container[int] = ()) -> set[int]:
    """Kill the processes of a pod (without ``mark``: of any) that left their group. Return those that have not ended.

    ``before``: the result of the previous call, since a process that is ending has no environment.
    """
    escaped = {pid for pid in children() - leaders if not mark or pid in before or mark in environment_of(pid)}
    for pid in escaped:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    return escaped


def children() -> set[int]:
    with suppress(FileNotFoundError):
        return set(map(int, Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()))
    return set()


def environment_of(pid: int) -> list[bytes]:
    with suppress(OSError):
        return Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
    return []


def write_record(path: str, pod: str) -> None:
    """Record this process, a pod's, in a file that is complete or does not exist, so that no pod runs without one.

    On a full disk it does run without one: where there is a /proc, its environment identifies it.
    """
    record = {"pod": pod, "pid": os.getpid(), "started": started(os.getpid()), "at": time.time()}
    half = Path(path + ".half")
    with suppress(OSError):
        half.write_text(json.dumps(record))
        half.replace(path)


def started(pid: int) -> int | None:
    """Return the start time of a process, in ticks since boot, or None without such a process or a /proc."""
    with suppress(OSError):
        return int(Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()[19])
    return None


def raise_file_limit() -> tuple[int, int]:
    """Allow this process to open many files. Return the previous limits, which pods get."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    for most in (65536, 10240):  # macOS may refuse more than the second, whatever the hard limit says
        wanted = most if hard == resource.RLIM_INFINITY else min(hard, most)
        with suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, wanted), hard))
            break
    return soft, hard


if __name__ == "__main__":
    if prctl is not None:
        prctl(PR_SET_CHILD_SUBREAPER, 1)
    Keeper(socket.socket(fileno=int(sys.argv[1]))).run()
