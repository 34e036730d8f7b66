"""Pods as processes of this machine: one process group per awake session, on a loopback port of its own."""

from __future__ import annotations

import asyncio
import os
import uuid
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from session_manager.domain.errors import PodCannotStart
from session_manager.domain.session_class import SessionClass
from session_manager.runtime.probe import until_ready
from session_manager.runtime.process.environment import agent_environment, pod_environment
from session_manager.runtime.process.failures import (
    crashed,
    how_it_ended,
    machine_trouble,
    never_ready,
    no_command,
    not_runnable,
)
from session_manager.runtime.process.folders import Folders, SessionPaths, remove_folder
from session_manager.runtime.process.leftovers import end_leftovers
from session_manager.runtime.process.link import END_WITHIN, KeeperLink, PodProcess, Spawn
from session_manager.runtime.process.listeners import pod_listens
from session_manager.runtime.process.lock import take_lock
from session_manager.runtime.process.output import last_lines
from session_manager.runtime.process.ports import LOOPBACK, Ports, in_use
from session_manager.runtime.protocol import Address, ExitListener, PhaseListener, PodExit
from session_manager.settings import Settings

PORT_TRIES = 3
SETTLE = 1.0  # seconds


@dataclass(slots=True)
class _Pod:
    """A pod from the moment it is asked for until all of it is gone. ``wanted``: nobody asked for its end."""

    session: str
    address: Address
    grace: float
    process: PodProcess
    tmp: Path
    ready: bool = False
    wanted: bool = True
    clearing: asyncio.Task[None] | None = None


class ProcessRuntime:
    """The Runtime of one machine. ``agent_env`` goes to every pod; ``patience``: seconds to wait for the lock."""

    def __init__(self, data_dir: Path, agent_env: Mapping[str, str], patience: float = 1.0) -> None:
        self._folders = Folders(data_dir)
        self._agent_env = dict(agent_env)
        self._patience = patience
        self._lock: int | None = None
        self._link: KeeperLink | None = None
        self._linking = asyncio.Lock()
        self._ports = Ports()
        self._pods: dict[str, _Pod] = {}
        self._listeners: list[ExitListener] = []

    @classmethod
    def from_settings(cls, settings: Settings) -> ProcessRuntime:
        return cls(settings.data_dir, agent_environment(settings))

    # -- ownership -----------------------------------------------------------------------------------------------------

    async def start(self) -> None:
        self._folders.make()
        self._lock = await take_lock(self._folders.lock, self._patience)
        try:
            await self._end_leftovers()
            await self._keeper()
        except BaseException:
            await self.close()
            raise

    async def close(self, grace: float | None = None) -> None:
        lock, self._lock = self._lock, None  # from here on no pod is started
        pods = list(self._pods.values())
        graces = [pod.grace if grace is None else grace for pod in pods]
        with suppress(TimeoutError):  # of what is not gone by then the link takes care
            async with asyncio.timeout(max(graces, default=0.0) + END_WITHIN):
                await asyncio.gather(*map(self._end, pods, graces))
        link, self._link = self._link, None
        if link is not None:
            await link.close()
            await asyncio.to_thread(self._folders.clear_tmp)
        if lock is not None:
            os.close(lock)

    async def _end_leftovers(self) -> None:
        await asyncio.to_thread(end_leftovers, self._folders)

    async def _keeper(self) -> KeeperLink:
        """The keeper that runs; another one when it was killed."""
        async with self._linking:
            if self._lock is None:
                raise PodCannotStart("NotOwner", "another process owns the pods of this data folder")
            if self._link is None or not self._link.alive:
                if self._link is not None:
                    await self._link.close()
                self._link = KeeperLink(self._end_leftovers)
                await self._link.start(self._lock)
            return self._link

    # -- pods ----------------------------------------------------------------------------------------------------------

    def on_exit(self, listener: ExitListener) -> None:
        self._listeners.append(listener)

    def pods(self) -> dict[str, Address]:
        return {session: pod.address for session, pod in self._pods.items() if pod.ready and pod.wanted}

    async def start_pod(self, session: str, session_class: SessionClass, on_phase: PhaseListener) -> Address:
        if not session_class.command:
            raise no_command(session_class)
        before = self._pods.get(session)
        if before is not None:
            await self._end(before, before.grace)
        try:
            paths = await asyncio.to_thread(self._folders.prepare, session)
            for _ in range(PORT_TRIES):
                address = await self._try_port(session, session_class, paths, on_phase)
                if address is not None:
                    return address
                on_phase("another process took the port; trying another port")
        except OSError as error:
            raise machine_trouble(error) from None
        raise PodCannotStart("PortTaken", "other processes took each port before the pod could listen on it")

    async def _try_port(
        self, session: str, session_class: SessionClass, paths: SessionPaths, on_phase: PhaseListener
    ) -> Address | None:
        """None when somebody else was faster to listen on the port."""
        uid = str(uuid.uuid4())
        tmp = await asyncio.to_thread(self._folders.make_tmp, uid)
        keeper = await self._keeper()
        on_phase("starting the process")
        pod = self._spawn(keeper, session, uid, session_class, paths, tmp)
        try:
            await pod.process.spawned.wait()
            if pod.process.refusal is not None:
                raise not_runnable(pod.process.refusal, session_class)
            on_phase(f"waiting for GET {session_class.probe.path} on port {pod.address.port}")
            pod.ready = await self._answers(pod, session_class) and await self._answers_itself(pod)
        finally:
            if not pod.ready:
                await self._end(pod, pod.grace)
        if pod.ready:
            return pod.address
        if in_use(pod.address.port):
            return None
        raise crashed(session, pod.process, paths, [*self._agent_env.values(), *session_class.env.values()])

    def _spawn(
        self, keeper: KeeperLink, session: str, uid: str, session_class: SessionClass, paths: SessionPaths, tmp: Path
    ) -> _Pod:
        address = Address(LOOPBACK, self._ports.take(), uid)
        env = pod_environment(session, address.port, paths.home, tmp, session_class, self._agent_env)
        spawn = Spawn(uid, session, session_class.command, env, paths.home, paths.log, paths.record)
        process = keeper.spawn(spawn, lambda: self._on_gone(pod))
        pod = self._pods[session] = _Pod(session, address, session_class.grace_period, process, tmp)
        return pod

    async def _answers(self, pod: _Pod, session_class: SessionClass) -> bool:
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
            probing.cancel()
            ending.cancel()
            await asyncio.gather(probing, ending, return_exceptions=True)

    @staticmethod
    async def _answers_itself(pod: _Pod) -> bool:
        """Whether the answer was the pod's own; False when it ended.

        Where the listener is no process of the pod (a stranger, or a container that it started), the pod shows by
        living on that it is content: one that finds its port taken ends.
        """
        if await asyncio.to_thread(pod_listens, pod.process.pid, pod.address.port) is not False:
            return True
        with suppress(TimeoutError):
            async with asyncio.timeout(SETTLE):
                await pod.process.gone.wait()
        return not pod.process.gone.is_set()

    async def stop_pod(self, session: str, uid: str, grace: float) -> None:
        pod = self._pods.get(session)
        if pod is not None and pod.address.uid == uid:
            await self._end(pod, grace)

    async def _end(self, pod: _Pod, grace: float) -> None:
        pod.wanted = False
        if self._link is not None:
            self._link.stop(pod.process, grace)
        await pod.process.gone.wait()
        if pod.clearing is not None:
            await asyncio.wait((pod.clearing,))  # a caller that is cancelled leaves it running

    def _on_gone(self, pod: _Pod) -> None:
        self._ports.give_back(pod.address.port)
        pod.clearing = asyncio.create_task(asyncio.to_thread(remove_folder, pod.tmp))
        if self._pods.get(pod.session) is pod:
            del self._pods[pod.session]
        if pod.ready and pod.wanted:
            exit_ = PodExit(pod.session, pod.address.uid, how_it_ended(pod.process.status))
            for listener in self._listeners:
                listener(exit_)

    # -- what is kept --------------------------------------------------------------------------------------------------

    async def forget(self, session: str, *, files: bool) -> None:
        self._folders.of(session)
        pod = self._pods.get(session)
        if pod is not None:
            await self._end(pod, 0.0)
        if files:
            await asyncio.to_thread(self._folders.remove, session)

    async def gone(self, session: str) -> bool:
        paths = self._folders.of(session)
        return not any(path.exists() for path in (paths.record, paths.home, paths.log, paths.older_log))

    async def logs(self, session: str, tail: int) -> str:
        return "\n".join(await asyncio.to_thread(last_lines, self._folders.of(session), tail))
