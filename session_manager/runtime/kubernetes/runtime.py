"""Pods in Kubernetes: the Runtime that a scaler works with.

Whoever restarts finds every pod as it was: closing ends none.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from session_manager.domain.errors import PodCannotStart
from session_manager.domain.session_class import SessionClass
from session_manager.runtime.kubernetes.answering import Answering
from session_manager.runtime.kubernetes.cluster import ApiNotFound, Cluster
from session_manager.runtime.kubernetes.pods import Pods, PodView
from session_manager.runtime.kubernetes.probing import LOOK
from session_manager.runtime.kubernetes.start import Start
from session_manager.runtime.kubernetes.trouble import Trouble
from session_manager.runtime.kubernetes.workloads import WITHOUT_TRYING, Workloads
from session_manager.runtime.protocol import Address, ExitListener, PhaseListener


class KubernetesRuntime:
    def __init__(self, cluster: Cluster, pods: Pods, workloads: Workloads) -> None:
        self._cluster = cluster
        self._pods = pods
        self._workloads = workloads
        self.answering = Answering(pods, workloads)
        self._start_listeners: list[Callable[[str, float], None]] = []
        self._leaving = False

    async def start(self) -> None:
        """Know the pods that are there, and which of them answer."""
        await self._pods.start()
        await self.answering.first_look()

    async def close(self, grace: float | None = None) -> None:
        """Watch no more. The pods stay: whoever comes next finds them."""
        await self._pods.close()
        await self.answering.close()

    def leave(self) -> None:
        """This process ends: a start that is cancelled from now on leaves what it has begun to the next."""
        self._leaving = True

    def on_exit(self, listener: ExitListener) -> None:
        self.answering.on_exit(listener)

    def on_started(self, listener: Callable[[str, float], None]) -> None:
        """Call ``listener`` with what came of each start, in a word or two, and the seconds that it took."""
        self._start_listeners.append(listener)

    def pods(self) -> dict[str, Address]:
        return {pod.session: _address(pod) for pod in self.answering.all()}

    # -- start ---------------------------------------------------------------------------------------------------------

    async def start_pod(self, session: str, session_class: SessionClass, on_phase: PhaseListener) -> Address:
        loop = asyncio.get_running_loop()
        began, result = loop.time(), "given up"
        try:
            address = await self._start_or_fail(session, session_class, on_phase)
            result = "answered"
            return address
        except PodCannotStart as error:
            result = error.reason
            raise
        finally:
            for listener in self._start_listeners:
                listener(result, loop.time() - began)

    async def _start_or_fail(self, session: str, session_class: SessionClass, on_phase: PhaseListener) -> Address:
        on_phase("asking the cluster for a pod")
        start = Start(self._pods, self.answering, self._workloads, session, session_class, on_phase)
        try:
            await self.answering.take_over(session)
            async with asyncio.timeout(session_class.probe.startup_timeout):
                pod = await start.run()
        except TimeoutError:
            raise await self._failed(session, start.too_late()) from None
        except PodCannotStart as error:
            raise await self._failed(session, error) from None
        except BaseException:
            if not self._leaving:
                await asyncio.shield(self.answering.give_up(session))
            raise
        finally:
            self.answering.starting.discard(session)
        self.answering.answers(pod)
        return _address(pod)

    async def _failed(self, session: str, error: PodCannotStart) -> PodCannotStart:
        if error.reason not in WITHOUT_TRYING:  # the status tells those by what it sees, for as long as it sees it
            self.answering.failed(session, Trouble(error.reason, error.remedy))
        await self.answering.give_up(session)
        return error

    # -- stop ----------------------------------------------------------------------------------------------------------

    async def stop_pod(self, session: str, uid: str, grace: float) -> None:
        """As the Protocol says; a pod without storage counts as gone once its deletion has begun."""
        pod = self.answering.get(uid) or self._pods.get(uid)
        if pod is not None:
            self.answering.drop(pod)
        if pod is not None and pod.claimed:
            await self._workloads.end(pod)
        elif not await self._workloads.sleep(session) and pod is not None:
            # Somebody has woken the session meanwhile: it keeps its replica, but this pod is not addressed again.
            await self._workloads.end(pod)
        while (now := self._pods.get(uid)) is not None and not now.leaving:
            await self._pods.change(session, LOOK)

    # -- what is kept --------------------------------------------------------------------------------------------------

    async def forget(self, session: str, *, files: bool) -> None:
        """The Session itself is deleted by a front door, and takes its children with it; a volume belongs to nobody."""
        for pod in self._pods.of_session(session):
            self.answering.drop(pod)
        self.answering.troubles.pop(session, None)
        await self._workloads.forget(session, deleted=files)

    async def gone(self, session: str) -> bool:
        return not self._pods.of_session(session)

    async def logs(self, session: str, tail: int) -> str:
        pods = self._pods.of_session(session)
        if not pods:
            return ""
        try:
            return await self._cluster.logs(pods[-1].name, tail)
        except ApiNotFound:
            return ""


def _address(pod: PodView) -> Address:
    return Address(pod.ip, pod.port, pod.uid)
