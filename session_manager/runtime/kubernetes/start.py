"""One start of a pod: from the Session that has to be there to the probe that answers."""

from __future__ import annotations

import asyncio

from session_manager.aio.retry import Backoff
from session_manager.domain.errors import PodCannotStart
from session_manager.domain.session_class import SessionClass
from session_manager.runtime.kubernetes.answering import Answering
from session_manager.runtime.kubernetes.pods import Pods, PodView
from session_manager.runtime.kubernetes.probing import LOOK, probed
from session_manager.runtime.kubernetes.session_class import ClassSpec
from session_manager.runtime.kubernetes.workloads import Workloads
from session_manager.runtime.protocol import PhaseListener

APPEAR = 10.0  # seconds until a Session that has work has to be there
APPEAR_LOOKS = Backoff(0.01, 0.2)


class Start:
    def __init__(
        self,
        pods: Pods,
        answering: Answering,
        workloads: Workloads,
        session: str,
        session_class: SessionClass,
        on_phase: PhaseListener,
    ) -> None:
        self._pods = pods
        self._answering = answering
        self._workloads = workloads
        self._session = session
        self._class = session_class
        self._on_phase = on_phase

    async def run(self) -> PodView:
        """A pod that answers. The caller owns the time limit. PodCannotStart for trouble that waiting does not mend."""
        spec = await self._appeared()
        if spec.storage is not None:
            await self._until_gone()
        await self._workloads.wake(self._session)
        while True:
            pod = await self._with_address()
            self._on_phase(f"waiting for GET {self._class.probe.path} on port {pod.port}")
            if await probed(self._pods, pod, self._class.probe):
                return pod

    async def _appeared(self) -> ClassSpec:
        """A front door makes the Session; its event may be on the way."""
        deadline, pauses = asyncio.get_running_loop().time() + APPEAR, APPEAR_LOOKS.pauses()
        while True:
            spec = await self._workloads.wakeable(self._session)
            if spec is not None:
                return spec
            if asyncio.get_running_loop().time() > deadline:
                remedy = "no front door has made the Session resource; look at its log and at its rights"
                raise PodCannotStart("SessionMissing", remedy)
            await asyncio.sleep(next(pauses))

    async def _until_gone(self) -> None:
        """A volume is given to one pod at a time."""
        pods = self._pods
        while any(pod.leaving or self._answering.ended(pod) for pod in pods.of_session(self._session)):
            await pods.change(self._session, LOOK)

    async def _with_address(self) -> PodView:
        """The session's pod as soon as it has an address."""
        told = ""
        while True:
            pod = self._answering.candidate(self._session)
            if pod is None:
                await self._pods.change(self._session, LOOK)
                if self._answering.candidate(self._session) is None:
                    await self._check_creation()
                continue
            if pod.trouble is not None and pod.trouble.final:
                raise PodCannotStart(pod.trouble.reason, pod.trouble.remedy)
            if pod.ip:
                return pod
            words = pod.step if pod.trouble is None else pod.trouble.remedy
            if words != told:
                self._on_phase(words)
                told = words
            await self._pods.change(self._session, LOOK)

    async def _check_creation(self) -> None:
        trouble = await self._workloads.refusal(self._session)
        if trouble is not None:
            raise PodCannotStart(trouble.reason, trouble.remedy)

    def too_late(self) -> PodCannotStart:
        """Why its time was not enough."""
        pod = self._answering.candidate(self._session)
        seconds = self._class.probe.startup_timeout
        if pod is not None and pod.trouble is not None:
            return PodCannotStart(pod.trouble.reason, pod.trouble.remedy)
        if pod is not None and pod.ip:
            path = self._class.probe.path
            remedy = f"GET {path} was not answered with 2xx within {seconds:g} s; listen on the port in PORT, or raise "
            return PodCannotStart("NeverReady", remedy + "probe.startupTimeoutSeconds")
        step = "the cluster made no pod" if pod is None else f"it was still {pod.step}"
        return PodCannotStart("StartedTooSlowly", f"after {seconds:g} s {step}; raise probe.startupTimeoutSeconds")
