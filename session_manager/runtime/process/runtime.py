"""Pods as processes of this machine: a process group for each awake session, on its own loopback port."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterable, Mapping
from contextlib import suppress
from functools import partial
from pathlib import Path

from pydantic import SecretStr

from session_manager.aio.retry import Backoff
from session_manager.domain.errors import PodCannotStart, StartupFailure
from session_manager.domain.session_class import SessionClass
from session_manager.runtime.process.folders import Folders, take_lock
from session_manager.runtime.process.keeper import older
from session_manager.runtime.process.leftovers import end_leftovers
from session_manager.runtime.process.link import END_WITHIN, KeeperLink, start_keeper
from session_manager.runtime.process.pods import Pod, Pods
from session_manager.runtime.process.warm import WarmPods
from session_manager.runtime.protocol import ExitListener, PhaseListener, PodAddress, PodExit
from session_manager.settings import Settings

RETRY = Backoff(5.0, 300.0)


class ProcessRuntime:
    """The Runtime of one machine. Every pod receives ``agent_env``. ``patience``: seconds to wait for the lock.

    ``retry``: pauses between attempts to start a warm pod.
    """

    def __init__(
        self, data_dir: Path, agent_env: Mapping[str, str], patience: float = 1.0, retry: Backoff = RETRY
    ) -> None:
        self._folders = Folders(data_dir)
        self._patience = patience
        self._lock: int | None = None
        self._link: KeeperLink | None = None
        self._linking = asyncio.Lock()
        self._pods = Pods(self._folders, dict(agent_env), self._keeper, self._on_gone)
        self._warm = WarmPods(self._pods, retry)
        self._listeners: list[ExitListener] = []

    @classmethod
    def from_settings(cls, settings: Settings) -> ProcessRuntime:
        retry = Backoff(settings.pods.retry_first, settings.pods.retry_last)
        return cls(settings.server.data_dir, agent_environment(settings), retry=retry)

    async def start(self) -> None:
        self._folders.make()
        try:
            self._lock = await take_lock(self._folders.lock, self._patience)
            await asyncio.to_thread(end_leftovers, self._folders)
            await self._keeper()
        except OSError as error:
            await self.close()
            raise StartupFailure(f"Cannot run pods in {self._folders.run.parent}: {error.strerror}") from None
        except BaseException:
            await self.close()
            raise

    async def close(self, grace: float | None = None) -> None:
        lock, self._lock = self._lock, None  # from now on no pod is started
        await self._warm.stop()
        pods = list(self._pods.all)
        graces = [pod.session_class.grace_period if grace is None else grace for pod in pods]
        with suppress(TimeoutError):  # the link ends the pods that remain
            async with asyncio.timeout(max(graces, default=0.0) + END_WITHIN):
                await asyncio.gather(*map(self._pods.end, pods, graces))
        link, self._link = self._link, None
        if link is not None:
            await link.close()
            await asyncio.to_thread(self._folders.clear_pods)
        if lock is not None:
            os.close(lock)

    async def _keeper(self) -> KeeperLink:
        """Return the running keeper; start one if there is none or it was killed."""
        async with self._linking:
            if self._lock is None:
                raise PodCannotStart("NotOwner", "another process owns the pods of this data folder")
            if self._link is None or not self._link.alive:
                if self._link is not None:
                    await self._link.close()
                self._link = await start_keeper(self._folders, self._lock)
            return self._link

    def on_exit(self, listener: ExitListener) -> None:
        self._listeners.append(listener)

    def pods(self) -> dict[str, PodAddress]:
        return {session: pod.address for session, pod in self._pods.of_session.items() if pod.ready and pod.wanted}

    async def keep_warm(self, classes: Iterable[SessionClass]) -> None:
        """Keep as many pods ready as each class says, and end those of earlier classes. Requires ``start``."""
        await self._warm.keep(classes)

    async def start_pod(self, session: str, session_class: SessionClass, on_phase: PhaseListener) -> PodAddress:
        self._folders.of(session)
        before = self._pods.of_session.get(session)
        if before is not None:
            await self._pods.end(before)
        pod = await self._warm.claim(session, session_class)
        if pod is None:
            pod = await self._pods.start(session, session_class, on_phase)
        return pod.address

    async def stop_pod(self, session: str, uid: str, grace: float) -> None:
        pod = self._pods.of_session.get(session)
        if pod is not None and pod.address.uid == uid:
            await self._pods.end(pod, grace)

    def _on_gone(self, pod: Pod) -> None:
        reason = pod.process.how_it_ended()
        if pod.session is None:
            self._warm.gone(pod, reason)
        elif pod.ready and pod.wanted and pod.clearing is not None:
            exit_ = partial(PodExit, pod.session, pod.address.uid, reason)
            pod.clearing.add_done_callback(lambda _: self._report(exit_(pod.last_output)))

    def _report(self, exit_: PodExit) -> None:
        for listener in self._listeners:
            listener(exit_)

    async def forget(self, session: str, *, files: bool) -> None:
        self._folders.of(session)
        pod = self._pods.of_session.get(session)
        if pod is not None:
            await self._pods.end(pod, 0.0)
        if files:
            await asyncio.to_thread(self._folders.remove, session)

    async def gone(self, session: str) -> bool:
        paths = self._folders.of(session)
        return not any(path.exists() for path in (paths.record, paths.home, paths.log, older(paths.log)))

    async def logs(self, session: str, tail: int) -> str:
        return "\n".join(await asyncio.to_thread(self._folders.of(session).last_lines, tail))


def agent_environment(settings: Settings) -> dict[str, str]:
    """Return the settings that every agent receives: keys and model of providers, ENVIRONMENT, our address."""
    values = settings.agents.model_dump(by_alias=True) | {"SESSION_MANAGER_URL": settings.pods.front_door_url}
    return {
        name: value.get_secret_value() if isinstance(value, SecretStr) else value
        for name, value in values.items()
        if value is not None
    }
