"""The owner's side of the keeper: start it, request pods, and receive their ends."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field

from session_manager.aio.tasks import cancel
from session_manager.domain.errors import StartupFailure
from session_manager.runtime.process import keeper
from session_manager.runtime.process.folders import Folders, Paths
from session_manager.runtime.process.leftovers import end_leftovers

END_WITHIN = 10.0  # seconds for a keeper to kill the remaining pods

log = logging.getLogger(__name__)


@dataclass(slots=True, eq=False)
class PodProcess:
    """One pod. Once ``gone`` is set, none of its processes runs.

    ``refused``: the reason why its program could not be run; ``missing``: the program does not exist. ``status`` is as
    from waitpid, or None if its end was not observed. ``printed``: it printed something.
    """

    uid: str
    on_gone: Callable[[], None]
    spawned: asyncio.Event = field(default_factory=asyncio.Event)
    claimed: asyncio.Event = field(default_factory=asyncio.Event)
    gone: asyncio.Event = field(default_factory=asyncio.Event)
    pid: int = 0
    refused: str | None = None
    missing: bool = False
    status: int | None = None
    printed: bool = False

    def end(self, status: int | None) -> None:
        self.status = status
        self.spawned.set()
        self.claimed.set()
        self.gone.set()
        self.on_gone()

    def how_it_ended(self) -> str:
        if self.status is None:
            return "killed together with the process that held it"
        code = os.waitstatus_to_exitcode(self.status)
        if code >= 0:
            return f"exit code {code}"
        with suppress(ValueError):
            return f"killed by {signal.Signals(-code).name}"
        return f"killed by signal {-code}"


@dataclass(slots=True, eq=False)
class KeeperLink:
    """One keeper process. If it is killed, every pod is gone after its leftovers have been ended."""

    folders: Folders
    process: subprocess.Popen[bytes]
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    pods: dict[str, PodProcess] = field(default_factory=dict)
    listening: asyncio.Task[None] = field(init=False)

    def __post_init__(self) -> None:
        self.listening = asyncio.create_task(self._listen(), name="keeper")

    @property
    def alive(self) -> bool:
        return not self.listening.done()

    def spawn(self, pod: PodProcess, mark: str, command: tuple[str, ...], env: dict[str, str], paths: Paths) -> None:
        """Request a pod. Its ``spawned`` is set when it runs, or when it could not be run.

        ``mark`` is the entry of ``env`` that no other pod has.
        """
        self.pods[pod.uid] = pod
        files = {"cwd": str(paths.home), "log": str(paths.log), "record": str(paths.record)}
        self._send(op="spawn", pod=pod.uid, mark=mark, command=command, env=env, **files)

    async def claim(self, pod: PodProcess, paths: Paths) -> bool:
        """Move its output and its record to these files, with its earlier output. Return False if it has ended."""
        if not pod.gone.is_set():
            self._send(op="claim", pod=pod.uid, log=str(paths.log), record=str(paths.record))
        await pod.claimed.wait()
        return not pod.gone.is_set()

    def stop(self, pod: PodProcess, grace: float) -> None:
        """Send SIGTERM to the pod's group, and SIGKILL after ``grace`` seconds."""
        if not pod.gone.is_set():
            self._send(op="stop", pod=pod.uid, grace=grace)

    async def close(self) -> None:
        """Close the connection, and wait until the keeper has killed all pods and ended."""
        await cancel(self.listening)
        self.writer.close()
        with suppress(OSError):
            await self.writer.wait_closed()
        await asyncio.to_thread(_wait, self.process)
        self._end_pods()

    def _send(self, **message: object) -> None:
        self.writer.write(json.dumps(message).encode() + b"\n")

    async def _listen(self) -> None:
        with suppress(OSError):
            while line := await self.reader.readline():
                message = json.loads(line)
                getattr(self, "_on_" + message.pop("op"))(**message)
        # The keeper was killed. Its pods were killed with it, or are ended here.
        log.error("the keeper of the pods was killed", extra={"event": "keeper.lost"})
        try:
            await asyncio.to_thread(end_leftovers, self.folders)
        except StartupFailure as error:
            log.error(error.detail, extra={"event": "keeper.leftovers"})
        finally:
            self._end_pods()

    def _on_spawned(self, pod: str, pid: int) -> None:
        self.pods[pod].pid = pid
        self.pods[pod].spawned.set()

    def _on_claimed(self, pod: str) -> None:
        self.pods[pod].claimed.set()

    def _on_refused(self, pod: str, missing: bool, error: str) -> None:
        found = self.pods.pop(pod)
        found.missing = missing
        found.refused = error
        found.end(None)

    def _on_gone(self, pod: str, status: int, printed: bool) -> None:
        found = self.pods.pop(pod)
        found.printed = printed
        found.end(status)

    def _end_pods(self) -> None:
        while self.pods:
            self.pods.popitem()[1].end(None)


async def start_keeper(folders: Folders, lock: int) -> KeeperLink:
    """Start a keeper. It holds the lock's descriptor until its last pod is gone. Raises StartupFailure."""
    ours, its = socket.socketpair()
    with its:
        command = [sys.executable, "-I", "-S", keeper.__file__, str(its.fileno())]
        # Not with asyncio, whose child watchers differ between event loops and are not needed here.
        process = subprocess.Popen(  # noqa: ASYNC220
            command, stdin=subprocess.DEVNULL, pass_fds=(its.fileno(), lock), start_new_session=True
        )
    reader, writer = await asyncio.open_connection(sock=ours)
    try:
        if not await reader.readline():
            raise StartupFailure("The keeper, the process that holds the pods, did not start")
    except BaseException:
        writer.close()
        await asyncio.to_thread(_wait, process)
        raise
    return KeeperLink(folders, process, reader, writer)


def _wait(process: subprocess.Popen[bytes]) -> None:
    try:
        process.wait(END_WITHIN)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
