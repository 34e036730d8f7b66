"""The pods of the owner, each a process group: how one starts, becomes a session's own, and ends."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Protocol

from session_manager.aio.tasks import cancel
from session_manager.domain.errors import PodCannotStart
from session_manager.domain.session_class import SessionClass
from session_manager.runtime.probe import until_ready
from session_manager.runtime.process.environment import pod_environment
from session_manager.runtime.process.failures import crashed, machine_trouble, never_ready, no_command, not_runnable
from session_manager.runtime.process.folders import Folders, Paths
from session_manager.runtime.process.link import KeeperLink, PodProcess, Spawn
from session_manager.runtime.process.listeners import pod_listens
from session_manager.runtime.process.output import last_words
from session_manager.runtime.process.ports import LOOPBACK, Ports, in_use
from session_manager.runtime.protocol import PhaseListener, PodAddress

PORT_TRIES = 3
SETTLE = 1.0  # seconds


@dataclass(slots=True, eq=False)
class Pod:
    """A pod from the moment it is asked for until all of it is gone.

    ``session`` None: it is to wait for one. ``wanted``: nobody asked for its end. ``listens``: one of its own processes
    does on its port, as far as is known; it may also be a container that it started. ``words``: its last ones, of a pod
    that is gone and never was ready.
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
    words: str = ""
    clearing: asyncio.Task[None] | None = None

    @property
    def grace(self) -> float:
        return self.session_class.grace_period


class OnGone(Protocol):
    def __call__(self, pod: Pod, /) -> None: ...


class Pods:
    """``all``: those that are not gone yet; ``of_session``: those of them that a session has.

    ``keeper`` gives the one that runs; ``on_gone`` is told of each pod that is gone, once.
    """

    def __init__(
        self,
        folders: Folders,
        agent_env: Mapping[str, str],
        keeper: Callable[[], Awaitable[KeeperLink]],
        on_gone: OnGone,
    ) -> None:
        self.all: set[Pod] = set()
        self.of_session: dict[str, Pod] = {}
        self._folders = folders
        self._agent_env = dict(agent_env)
        self._keeper = keeper
        self._tell_gone = on_gone
        self._ports = Ports()

    # -- start ---------------------------------------------------------------------------------------------------------

    async def start(self, session: str | None, session_class: SessionClass, on_phase: PhaseListener) -> Pod:
        """Start one and wait until its probe answers; PodCannotStart as the runtime's ``start_pod``."""
        if not session_class.command:
            raise no_command(session_class)
        try:
            for _ in range(PORT_TRIES):
                pod = await self._try_port(session, session_class, on_phase)
                if pod is not None:
                    return pod
                on_phase("another process took the port; trying another port")
        except OSError as error:
            raise machine_trouble(error) from None
        raise PodCannotStart("PortTaken", "other processes took each port before the pod could listen on it")

    async def _try_port(self, session: str | None, session_class: SessionClass, on_phase: PhaseListener) -> Pod | None:
        """None when somebody else was faster to listen on the port."""
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
        raise crashed(session, pod.process.status, pod.words)

    def _spawn(
        self, keeper: KeeperLink, session: str | None, uid: str, session_class: SessionClass, paths: Paths
    ) -> Pod:
        address = PodAddress(LOOPBACK, self._ports.take(), uid)
        # Where a class keeps warm pods none is told of a session, so that all of them are alike.
        told = session if session_class.warm == 0 else None
        env = pod_environment(told, address.port, paths.home, self._folders.tmp(uid), session_class, self._agent_env)
        mark = f"HOME={paths.home}" if told is None else f"SESSION_ID={told}"
        spawn = Spawn(uid, mark, session_class.command, env, paths.home, paths.log, paths.record)
        process = keeper.spawn(spawn, lambda: self._on_gone(pod))
        pod = Pod(session, address, session_class, paths, keeper, process)
        self.all.add(pod)
        if session is not None:
            self.of_session[session] = pod
        return pod

    async def _answers(self, pod: Pod, session_class: SessionClass) -> bool:
        """Whether its probe was answered; False when it ended. PodCannotStart when it took too long."""
        probe = session_class.probe
        last_try = "nothing was tried"

        def on_try(words: str) -> None:
            nonlocal last_try
            last_try = words

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
        """Whether the answer was the pod's own; False when it ended.

        Where the listener is no process of the pod (a stranger, or a container that it started), the pod shows by
        living on that it is content: one that finds its port taken ends.
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
        """Make a pod that waited the session's own. False when it is fit no more; then it is gone."""
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
        """SIGTERM, after ``grace`` seconds SIGKILL; returns when it is gone with its folders."""
        pod.wanted = False
        pod.keeper.stop(pod.process, grace)
        await pod.process.gone.wait()
        if pod.clearing is not None:
            await asyncio.wait((pod.clearing,))  # a caller that is cancelled leaves it running

    def _on_gone(self, pod: Pod) -> None:
        self._ports.give_back(pod.address.port)
        pod.clearing = asyncio.create_task(asyncio.to_thread(self._clear, pod))
        self.all.discard(pod)
        if pod.session is not None and self.of_session.get(pod.session) is pod:
            del self.of_session[pod.session]
        self._tell_gone(pod)

    def _clear(self, pod: Pod) -> None:
        if pod.process.printed and not pod.ready:
            pod.words = last_words(pod.paths, [*self._agent_env.values(), *pod.session_class.env.values()])
        self._folders.remove_pod(pod.address.uid)
