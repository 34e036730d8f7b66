"""The owner's pods, each a process group: start one, give it to a session, end it."""

from __future__ import annotations

import asyncio
import os
import re
import sys
import uuid
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from session_manager.aio.tasks import is_set_within, unless
from session_manager.domain.errors import PodCannotStart, StartupFailure
from session_manager.domain.session_class import SessionClass
from session_manager.runtime.probe import until_ready
from session_manager.runtime.process.folders import Folders, Paths
from session_manager.runtime.process.link import KeeperLink, PodProcess
from session_manager.runtime.process.ports import LOOPBACK, Ports, in_use, pod_listens
from session_manager.runtime.protocol import PhaseListener, PodAddress

PORT_TRIES = 3
SETTLE = 1.0  # seconds that a pod has to find out that its port is taken
MAX_LINE = 200  # characters of output in an error

RESERVED = frozenset({"HOME", "HOST", "PORT", "SESSION_ID", "TMPDIR"})
"""The variables that the runtime sets, so a class cannot."""

_FOLDERS = re.compile(r"/(?:[^\s/'\":]+/)+")
_CONTROL = re.compile(r"\x1b\[[0-9;]*[A-Za-z]|[\x00-\x1f\x7f]")


@dataclass(slots=True, eq=False)
class Pod:
    """A pod, from its start until all of it is gone.

    ``session`` is None while it waits for one. ``wanted``: its end was not requested. ``listens``: one of its own
    processes listens on its port, if that is known; a container that it started may listen instead. ``last_output`` is
    set for a pod that is gone and was not ended on purpose.
    """

    session: str | None
    address: PodAddress
    session_class: SessionClass
    paths: Paths
    keeper: KeeperLink
    process: PodProcess
    ready: bool = False
    wanted: bool = True
    listens: bool | None = None
    last_output: str = ""
    clearing: asyncio.Task[None] | None = None

    @property
    def see_logs(self) -> str:
        return "" if self.session is None else f"; see session-manager logs {self.session}"


@dataclass(slots=True, eq=False)
class Pods:
    """``all`` are the pods that are not gone yet, ``of_session`` those of them that a session has.

    ``keeper`` returns the running keeper; ``report_gone`` is called once for each pod that is gone.
    """

    folders: Folders
    agent_env: Mapping[str, str] = field(repr=False)
    keeper: Callable[[], Awaitable[KeeperLink]]
    report_gone: Callable[[Pod], None]
    ports: Ports = field(default_factory=Ports)
    all: set[Pod] = field(default_factory=set)
    of_session: dict[str, Pod] = field(default_factory=dict)

    async def start(self, session: str | None, session_class: SessionClass, on_phase: PhaseListener) -> Pod:
        """Start a pod and wait until its probe answers. Raises PodCannotStart."""
        if not session_class.command:
            remedy = f"class {session_class.name} has no command; add one to the file of SessionClasses"
            raise PodCannotStart("NoCommand", remedy)
        try:
            for _ in range(PORT_TRIES):
                pod = await self._try_port(session, session_class, on_phase)
                if pod is not None:
                    return pod
                on_phase("another process took the port; trying another port")
        except (OSError, StartupFailure) as error:  # no space, no files, no permission, no keeper
            reason = error.strerror if isinstance(error, OSError) else error.detail
            raise PodCannotStart(
                "MachineTrouble", f"{reason}; the machine that runs the pods needs attention"
            ) from None
        raise PodCannotStart("PortTaken", "other processes took every port before the pod could listen on it")

    async def _try_port(self, session: str | None, session_class: SessionClass, on_phase: PhaseListener) -> Pod | None:
        """Start a pod on the next port. Return None if another process took the port first."""
        pod = await self._spawn(session, session_class, on_phase)
        try:
            await pod.process.spawned.wait()
            if pod.process.refused is not None:
                raise _not_runnable(pod)
            on_phase(f"waiting for GET {session_class.probe.path} on port {pod.address.port}")
            pod.ready = await _answers(pod) and await _answers_itself(pod)
        finally:
            if not pod.ready:
                await self.end(pod, 0.0 if session is None else None)
        if pod.ready:
            return pod
        if in_use(pod.address.port):
            return None
        output = f"last output: {pod.last_output}{pod.see_logs}" if pod.last_output else "it printed nothing"
        raise PodCannotStart("CrashedAtStart", f"{pod.process.how_it_ended()}; {output}")

    async def _spawn(self, session: str | None, session_class: SessionClass, on_phase: PhaseListener) -> Pod:
        uid = str(uuid.uuid4())
        # No pod of a class with warm pods learns its session, so that all of them are alike.
        known = session if session_class.warm == 0 else None
        paths = self.folders.of_pod(uid, session) if known is None else self.folders.of(known)
        await asyncio.to_thread(self.folders.prepare, paths, uid)
        keeper = await self.keeper()
        on_phase("starting the process")
        address = PodAddress(LOOPBACK, self.ports.take(), uid)
        env = pod_environment(known, address.port, paths.home, self.folders.tmp / uid, session_class, self.agent_env)
        mark = f"HOME={paths.home}" if known is None else f"SESSION_ID={known}"
        pod = Pod(session, address, session_class, paths, keeper, PodProcess(uid, lambda: self._on_gone(pod)))
        keeper.spawn(pod.process, mark, session_class.command, env, paths)
        self.all.add(pod)
        if session is not None:
            self.of_session[session] = pod
        return pod

    async def give(self, pod: Pod, session: str) -> bool:
        """Give a waiting pod to a session. Return False if the pod is no longer usable; then it is gone."""
        pod.ready = False
        pod.session = session
        pod.paths = self.folders.of_pod(pod.address.uid, session)
        self.of_session[session] = pod
        try:
            if not pod.listens or await _listens(pod):
                pod.ready = await pod.keeper.claim(pod.process, pod.paths)
        finally:
            if not pod.ready:
                await self.end(pod, 0.0)
        return pod.ready

    async def end(self, pod: Pod, grace: float | None = None) -> None:
        """Send SIGTERM, and SIGKILL after ``grace`` seconds. Return when the pod and its folders are gone.

        By default ``grace`` is that of the pod's class.
        """
        pod.wanted = False
        pod.keeper.stop(pod.process, pod.session_class.grace_period if grace is None else grace)
        await pod.process.gone.wait()
        if pod.clearing is not None:
            await asyncio.wait((pod.clearing,))  # it goes on if the caller is cancelled

    def _on_gone(self, pod: Pod) -> None:
        self.ports.give_back(pod.address.port)
        pod.clearing = asyncio.create_task(asyncio.to_thread(self._clear, pod))
        self.all.discard(pod)
        if pod.session is not None and self.of_session.get(pod.session) is pod:
            del self.of_session[pod.session]
        self.report_gone(pod)

    def _clear(self, pod: Pod) -> None:
        if pod.process.printed and (pod.wanted or not pod.ready):
            pod.last_output = _last_output(pod.paths, [*self.agent_env.values(), *pod.session_class.env.values()])
        self.folders.remove_pod(pod.address.uid)


def pod_environment(
    session: str | None, port: int, home: Path, tmp: Path, session_class: SessionClass, agent_env: Mapping[str, str]
) -> dict[str, str]:
    """Return all variables of a pod. ``session`` is None if the pod does not learn the id of its session.

    ``python`` is our own Python, so that an agent can import ``session_manager.agent``.
    """
    bin_folder = str(Path(sys.executable).parent)
    return {
        "PATH": os.pathsep.join([bin_folder, *os.get_exec_path()]),
        "LANG": "C.UTF-8",
        "PYTHONUNBUFFERED": "1",
        **agent_env,
        **session_class.env,
        "HOME": str(home),
        "TMPDIR": str(tmp),
        "HOST": "127.0.0.1",
        "PORT": str(port),
        **({} if session is None else {"SESSION_ID": session}),
    }


async def _answers(pod: Pod) -> bool:
    """Wait for an answer to its probe; False if the pod ended. Raises PodCannotStart if it takes too long."""
    probe = pod.session_class.probe
    tries = ["the probe was not sent"]
    try:
        async with asyncio.timeout(probe.startup_timeout):
            await unless(pod.process.gone, until_ready(LOOPBACK, pod.address.port, probe, tries.append))
    except TimeoutError:
        remedy = "listen on the port in PORT, or raise probe.startupTimeoutSeconds"
        raise PodCannotStart(
            "NeverReady",
            f"GET {probe.path} was not answered with 2xx within {probe.startup_timeout:g} s: {tries[-1]}; {remedy}"
            f"{pod.see_logs}",
        ) from None
    return not pod.process.gone.is_set()


async def _answers_itself(pod: Pod) -> bool:
    """Return True if the answer came from the pod itself, and False if the pod ended.

    The listener may be another process, or a container that the pod started. A pod that finds its port taken ends, so
    one that keeps running has started the listener.
    """
    pod.listens = await _listens(pod)
    return pod.listens is not False or not await is_set_within(pod.process.gone, SETTLE)


async def _listens(pod: Pod) -> bool | None:
    return await asyncio.to_thread(pod_listens, pod.process.pid, pod.address.port)


def _not_runnable(pod: Pod) -> PodCannotStart:
    reason = "CommandNotFound" if pod.process.missing else "CommandNotRunnable"
    program = Path(pod.session_class.command[0]).name
    remedy = f"install it, or fix the command of class {pod.session_class.name}"
    return PodCannotStart(reason, f"{program}: {pod.process.refused}; {remedy}")


def _last_output(paths: Paths, secrets: Iterable[str]) -> str:
    """Return the last line with text that the pod printed, without secrets and without folders of this machine."""
    lines = (_CONTROL.sub("", line).strip() for line in reversed(paths.last_lines(20)))
    line = next(filter(None, lines), "")
    for secret in secrets:
        if len(secret) >= 8:
            line = line.replace(secret, "***")
    return _FOLDERS.sub("", line)[:MAX_LINE]
