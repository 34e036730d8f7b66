"""The owner's pods, each a process group: start one, give it to a session, end it."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass

from session_manager.aio.tasks import cancel
from session_manager.domain.errors import PodCannotStart, StartupFailure
from session_manager.domain.session_class import SessionClass
from session_manager.runtime.probe import until_ready
from session_manager.runtime.process.environment import pod_environment
from session_manager.runtime.process.failures import (
    crashed,
    last_output,
    machine_trouble,
    never_ready,
    no_command,
    not_runnable,
)
from session_manager.runtime.process.folders import Folders, Paths
from session_manager.runtime.process.link import KeeperLink, PodProcess, Spawn
from session_manager.runtime.process.ports import LOOPBACK, Ports, in_use, pod_listens
from session_manager.runtime.protocol import PhaseListener, PodAddress

PORT_TRIES = 3
SETTLE = 1.0  # seconds that a pod has to find out that its port is taken


@dataclass(slots=True, eq=False)
class Pod:
    """A pod, from its start until all of it is gone.

    ``session`` is None while it waits for one. ``wanted``: its end was not requested. ``listens``: one of its own
    processes listens on its port, if that is known; a container that it started may listen instead. ``last_output`` is
    set for a pod that is gone and never was ready.
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
    def grace(self) -> float:
        return self.session_class.grace_period


class Pods:
    """``all`` are the pods that are not gone yet, ``of_session`` those of them that a session has.

    ``keeper`` returns the running keeper; ``on_gone`` is called once for each pod that is gone.
    """

    def __init__(
        self,
        folders: Folders,
        agent_env: Mapping[str, str],
        keeper: Callable[[], Awaitable[KeeperLink]],
        on_gone: Callable[[Pod], None],
    ) -> None:
        self.all: set[Pod] = set()
        self.of_session: dict[str, Pod] = {}
        self._folders = folders
        self._agent_env = dict(agent_env)
        self._keeper = keeper
        self._report_gone = on_gone
        self._ports = Ports()

    # -- start ---------------------------------------------------------------------------------------------------------

    async def start(self, session: str | None, session_class: SessionClass, on_phase: PhaseListener) -> Pod:
        """Start a pod and wait until its probe answers. Raises PodCannotStart."""
        if not session_class.command:
            raise no_command(session_class)
        try:
            for _ in range(PORT_TRIES):
                pod = await self._try_port(session, session_class, on_phase)
                if pod is not None:
                    return pod
                on_phase("another process took the port; trying another port")
        except OSError as error:
            raise machine_trouble(error.strerror) from None
        except StartupFailure as error:  # of the keeper
            raise machine_trouble(error.detail) from None
        raise PodCannotStart("PortTaken", "other processes took every port before the pod could listen on it")

    async def _try_port(self, session: str | None, session_class: SessionClass, on_phase: PhaseListener) -> Pod | None:
        """Start a pod on the next port. Return None if another process took the port first."""
        uid = str(uuid.uuid4())
        keeps_home = session is not None and session_class.warm == 0
        paths = self._folders.of(session) if session and keeps_home else self._folders.of_pod(uid, session)
        await asyncio.to_thread(self._folders.prepare, paths, uid)
        keeper = await self._keeper()
        on_phase("starting the process")
        pod = self._spawn(keeper, session, uid, session_class, paths)
        try:
            await pod.process.spawned.wait()
            if pod.process.refusal is not None:
                raise not_runnable(pod.process.refusal, session_class)
            on_phase(f"waiting for GET {session_class.probe.path} on port {pod.address.port}")
            pod.ready = await self._answers(pod, session_class) and await self._answers_itself(pod)
        finally:
            if not pod.ready:
                await self.end(pod, 0.0 if session is None else pod.grace)
        if pod.ready:
            return pod
        if in_use(pod.address.port):
            return None
        raise crashed(session, pod.process.status, pod.last_output)

    def _spawn(
        self, keeper: KeeperLink, session: str | None, uid: str, session_class: SessionClass, paths: Paths
    ) -> Pod:
        address = PodAddress(LOOPBACK, self._ports.take(), uid)
        # No pod of a class with warm pods learns its session, so that all of them are alike.
        known = session if session_class.warm == 0 else None
        env = pod_environment(known, address.port, paths.home, self._folders.tmp(uid), session_class, self._agent_env)
        mark = f"HOME={paths.home}" if known is None else f"SESSION_ID={known}"
        spawn = Spawn(uid, mark, session_class.command, env, paths.home, paths.log, paths.record)
        process = keeper.spawn(spawn, lambda: self._on_gone(pod))
        pod = Pod(session, address, session_class, paths, keeper, process)
        self.all.add(pod)
        if session is not None:
            self.of_session[session] = pod
        return pod

    async def _answers(self, pod: Pod, session_class: SessionClass) -> bool:
        """Wait for an answer to its probe; False if the pod ended. Raises PodCannotStart if it takes too long."""
        probe = session_class.probe
        last_try = "the probe was not sent"

        def on_try(result: str) -> None:
            nonlocal last_try
            last_try = result

        probing = asyncio.create_task(until_ready(LOOPBACK, pod.address.port, probe, on_try))
        ending = asyncio.create_task(pod.process.gone.wait())
        try:
            await asyncio.wait((probing, ending), timeout=probe.startup_timeout, return_when=asyncio.FIRST_COMPLETED)
            if not (probing.done() or ending.done()):
                raise never_ready(pod.session, session_class, last_try)
            return not pod.process.gone.is_set()
        finally:
            await cancel(probing, ending)

    @staticmethod
    async def _answers_itself(pod: Pod) -> bool:
        """Return True if the answer came from the pod itself, and False if the pod ended.

        The listener may be another process, or a container that the pod started. A pod that finds its port taken ends,
        so one that keeps running has started the listener.
        """
        pod.listens = await asyncio.to_thread(pod_listens, pod.process.pid, pod.address.port)
        if pod.listens is not False:
            return True
        with suppress(TimeoutError):
            async with asyncio.timeout(SETTLE):
                await pod.process.gone.wait()
        return not pod.process.gone.is_set()

    # -- the claim -----------------------------------------------------------------------------------------------------

    async def give(self, pod: Pod, session: str) -> bool:
        """Give a waiting pod to a session. Return False if the pod is no longer usable; then it is gone."""
        pod.ready = False
        pod.session = session
        pod.paths = self._folders.of_pod(pod.address.uid, session)
        self.of_session[session] = pod
        try:
            pod.ready = await self._still_listens(pod) and await pod.keeper.claim(
                pod.process, pod.paths.log, pod.paths.record
            )
        finally:
            if not pod.ready:
                await self.end(pod, 0.0)
        return pod.ready

    @staticmethod
    async def _still_listens(pod: Pod) -> bool:
        if not pod.listens:
            return True
        return await asyncio.to_thread(pod_listens, pod.process.pid, pod.address.port) is True

    # -- the end -------------------------------------------------------------------------------------------------------

    async def end(self, pod: Pod, grace: float) -> None:
        """Send SIGTERM, and SIGKILL after ``grace`` seconds. Return when the pod and its folders are gone."""
        pod.wanted = False
        pod.keeper.stop(pod.process, grace)
        await pod.process.gone.wait()
        if pod.clearing is not None:
            await asyncio.wait((pod.clearing,))  # it goes on if the caller is cancelled

    def _on_gone(self, pod: Pod) -> None:
        self._ports.give_back(pod.address.port)
        pod.clearing = asyncio.create_task(asyncio.to_thread(self._clear, pod))
        self.all.discard(pod)
        if pod.session is not None and self.of_session.get(pod.session) is pod:
            del self.of_session[pod.session]
        self._report_gone(pod)

    def _clear(self, pod: Pod) -> None:
        if pod.process.printed and not pod.ready:
            pod.last_output = last_output(pod.paths, [*self._agent_env.values(), *pod.session_class.env.values()])
        self._folders.remove_pod(pod.address.uid)
