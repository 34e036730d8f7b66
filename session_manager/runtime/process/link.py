"""The owner's side of the keeper: start it, request pods, and receive their ends."""

from __future__ import annotations

import asyncio
import json
import logging
import socket
import subprocess
import sys
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from session_manager.aio.tasks import cancel
from session_manager.domain.errors import StartupFailure
from session_manager.runtime.process import keeper

END_WITHIN = 10.0  # seconds for a keeper to kill the remaining pods

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Spawn:
    """The request to start a pod. ``pod`` is its UID, ``mark`` the entry of ``env`` that no other pod has."""

    pod: str
    mark: str
    command: tuple[str, ...]
    env: dict[str, str]
    cwd: Path
    log: Path
    record: Path


@dataclass(frozen=True, slots=True)
class Refusal:
    """The pod's program could not be run. ``missing``: the file does not exist."""

    missing: bool
    error: str


class PodProcess:
    """One pod. Once ``gone`` is set, none of its processes runs.

    ``status`` is as from waitpid, or None if its end was not observed. ``printed``: it printed something.
    """

    def __init__(self, uid: str, on_gone: Callable[[], None]) -> None:
        self.uid = uid
        self.spawned = asyncio.Event()
        self.claimed = asyncio.Event()
        self.gone = asyncio.Event()
        self.pid = 0
        self.refusal: Refusal | None = None
        self.status: int | None = None
        self.printed = False
        self._on_gone = on_gone

    def end(self, status: int | None) -> None:
        self.status = status
        self.spawned.set()
        self.claimed.set()
        self.gone.set()
        self._on_gone()


class KeeperLink:
    """One keeper process. If it is killed, ``clean_up`` runs, and after that every pod is gone."""

    def __init__(self, clean_up: Callable[[], Awaitable[None]]) -> None:
        self._clean_up = clean_up
        self._process: subprocess.Popen[bytes] | None = None
        self._writer: asyncio.StreamWriter | None = None
        self._listening: asyncio.Task[None] | None = None
        self._pods: dict[str, PodProcess] = {}

    @property
    def alive(self) -> bool:
        return self._listening is not None and not self._listening.done()

    async def start(self, lock: int) -> None:
        """Start the keeper. It holds the lock's descriptor until its last pod is gone. Raises StartupFailure."""
        ours, its = socket.socketpair()
        with its:
            command = [sys.executable, "-I", "-S", keeper.__file__, str(its.fileno())]
            # Not with asyncio, whose child watchers differ between event loops and are not needed here.
            self._process = subprocess.Popen(  # noqa: ASYNC220
                command, stdin=subprocess.DEVNULL, pass_fds=(its.fileno(), lock), start_new_session=True
            )
        reader, self._writer = await asyncio.open_connection(sock=ours)
        if not await reader.readline():
            raise StartupFailure("The keeper, the process that holds the pods, did not start")
        self._listening = asyncio.create_task(self._listen(reader), name="keeper")

    def spawn(self, spawn: Spawn, on_gone: Callable[[], None]) -> PodProcess:
        """Request a pod. Its ``spawned`` is set when it runs, or when it could not be run."""
        pod = self._pods[spawn.pod] = PodProcess(spawn.pod, on_gone)
        self._send(
            op="spawn",
            pod=spawn.pod,
            mark=spawn.mark,
            command=spawn.command,
            env=spawn.env,
            cwd=str(spawn.cwd),
            log=str(spawn.log),
            record=str(spawn.record),
        )
        return pod

    async def claim(self, pod: PodProcess, log: Path, record: Path) -> bool:
        """Move its output and its record to these files, with its earlier output. Return False if it has ended."""
        if not pod.gone.is_set():
            self._send(op="claim", pod=pod.uid, log=str(log), record=str(record))
        await pod.claimed.wait()
        return not pod.gone.is_set()

    def stop(self, pod: PodProcess, grace: float) -> None:
        """Send SIGTERM to the pod's group, and SIGKILL after ``grace`` seconds."""
        if not pod.gone.is_set():
            self._send(op="stop", pod=pod.uid, grace=grace)

    async def close(self) -> None:
        """Close the connection, and wait until the keeper has killed all pods and ended."""
        if self._listening is not None:
            await cancel(self._listening)
        if self._writer is not None:
            self._writer.close()
            with suppress(OSError):
                await self._writer.wait_closed()
        if self._process is not None:
            await asyncio.to_thread(_wait, self._process)
        self._end_pods()

    def _send(self, **message: object) -> None:
        if self._writer is not None:
            self._writer.write(json.dumps(message).encode() + b"\n")

    async def _listen(self, reader: asyncio.StreamReader) -> None:
        with suppress(OSError):
            while line := await reader.readline():
                message = json.loads(line)
                getattr(self, "_on_" + message.pop("op"))(**message)
        # The keeper was killed. So were its pods, or clean_up finds them.
        log.error("the keeper of the pods was killed", extra={"event": "keeper.lost"})
        try:
            await self._clean_up()
        except StartupFailure as error:
            log.error(error.detail, extra={"event": "keeper.leftovers"})
        finally:
            self._end_pods()

    def _on_spawned(self, pod: str, pid: int) -> None:
        self._pods[pod].pid = pid
        self._pods[pod].spawned.set()

    def _on_claimed(self, pod: str) -> None:
        self._pods[pod].claimed.set()

    def _on_refused(self, pod: str, missing: bool, error: str) -> None:
        refused = self._pods.pop(pod)
        refused.refusal = Refusal(missing, error)
        refused.end(None)

    def _on_gone(self, pod: str, status: int, printed: bool) -> None:
        gone = self._pods.pop(pod)
        gone.printed = printed
        gone.end(status)

    def _end_pods(self) -> None:
        while self._pods:
            self._pods.popitem()[1].end(None)


def _wait(process: subprocess.Popen[bytes]) -> None:
    try:
        process.wait(END_WITHIN)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
