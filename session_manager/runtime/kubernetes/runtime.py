"""Pods in Kubernetes: the Runtime that a scaler works with.

Closing it ends no pod, and the next process that opens it finds every pod as it was.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from session_manager.aio.retry import Backoff
from session_manager.domain.errors import PodCannotStart, Unavailable
from session_manager.domain.session_class import Probe, SessionClass
from session_manager.runtime.kubernetes.answering import Answering
from session_manager.runtime.kubernetes.cluster import ApiBroken, ApiConflict, ApiError, ApiNotFound
from session_manager.runtime.kubernetes.pods import Pods, PodView
from session_manager.runtime.kubernetes.resources import CLASS_MISSING, SUSPENDED, Resources, SessionSpec
from session_manager.runtime.kubernetes.steps import API_BROKEN, ASKING, NO_POD, RUNNING, PodEvent, Step, step_of
from session_manager.runtime.kubernetes.trouble import Trouble, trouble_of_refusal
from session_manager.runtime.kubernetes.workloads import Workloads
from session_manager.runtime.protocol import ExitListener, PhaseListener, PodAddress

APPEARS_WITHIN = 10.0  # seconds until the Session of a start must exist
APPEAR_LOOKS = Backoff(0.01, 0.2)
WAKE_TRIES = Backoff(0.5, 10.0)  # while the API server, or a webhook that it asks, is broken


@dataclass(slots=True, eq=False)
class KubernetesRuntime:
    """``on_started`` are called after each start with (its result in a word or two, the seconds that it took).

    ``on_expired`` are called with each session that expired.
    ``events_of`` returns what the Events say about the pod of this UID.
    ``ending``: this process ends. It leaves what a start has begun to the next one, if the start is cancelled.
    """

    resources: Resources
    all_pods: Pods
    workloads: Workloads
    events_of: Callable[[str], Sequence[PodEvent]] = lambda _: ()
    answering: Answering = field(init=False)
    on_started: list[Callable[[str, float], None]] = field(default_factory=list)
    on_expired: list[Callable[[str], None]] = field(default_factory=list)
    ending: bool = False

    def __post_init__(self) -> None:
        self.answering = Answering(self.all_pods, self.workloads)

    async def start(self) -> None:
        """List the pods, and find out which of them answer."""
        await self.all_pods.start()
        await self.answering.first_look()

    async def close(self, grace: float | None = None) -> None:
        """Stop watching. The pods stay for the next process."""
        await self.all_pods.close()
        await self.answering.background.close()

    def on_exit(self, listener: ExitListener) -> None:
        self.answering.on_exit.append(listener)

    def pods(self) -> dict[str, PodAddress]:
        return {pod.session: pod.address for pod in self.answering.by_uid.values()}

    # -- start ---------------------------------------------------------------------------------------------------------

    async def start_pod(self, session: str, session_class: SessionClass, on_phase: PhaseListener) -> PodAddress:
        loop = asyncio.get_running_loop()
        began, result = loop.time(), "given up"
        try:
            address = await self._start_or_fail(session, session_class.probe, on_phase)
            result = "answered"
            return address
        except PodCannotStart as error:
            result = error.reason
            raise
        finally:
            for listener in self.on_started:
                listener(result, loop.time() - began)

    async def _start_or_fail(self, session: str, probe: Probe, on_phase: PhaseListener) -> PodAddress:
        on_phase(ASKING.phase)
        try:
            await self.answering.take_over(session)
            async with asyncio.timeout(probe.startup_timeout):
                pod = await self._answering_pod(session, probe, on_phase)
        except TimeoutError:
            raise await self._failed(session, self._too_late(session, probe)) from None
        except PodCannotStart as error:
            raise await self._failed(session, error) from None
        except ApiError as error:
            trouble = trouble_of_refusal(error)
            raise await self._failed(session, PodCannotStart(trouble.reason, trouble.remedy)) from None
        except BaseException:
            if not self.ending:
                await asyncio.shield(self.answering.give_up(session))
            raise
        finally:
            self.answering.start_ended(session)
        self.answering.answers(pod)
        return pod.address

    async def _failed(self, session: str, error: PodCannotStart) -> PodCannotStart:
        # The status of a Session shows these by itself, for as long as they last.
        if error.reason not in {SUSPENDED, CLASS_MISSING}:
            self.answering.failed(session, Trouble(error.reason, error.remedy))
        await self.answering.give_up(session)
        return error

    async def _answering_pod(self, session: str, probe: Probe, on_phase: PhaseListener) -> PodView:
        """Wake the session and return its pod once it answers. Raises PodCannotStart for final trouble."""
        spec = await self._appeared(session)
        if spec.class_spec.storage is not None:
            await self._until_volume_is_free(session)
            spec = await self._still_wakeable(session)
        await self._wake(spec, on_phase)
        while True:
            pod = await self._with_address(session, probe, on_phase)
            if await self.all_pods.answers(pod, probe, lambda now: self._look(now, probe, on_phase)):
                return pod

    def _look(self, pod: PodView, probe: Probe, on_phase: PhaseListener) -> None:
        self._reached(pod.session, self._step_now(pod, probe), on_phase)

    def _step_now(self, pod: PodView, probe: Probe) -> Step:
        """Return the step that the pod has reached. It may have an address long before its program runs."""
        step = step_of(pod.step, pod.trouble, self.events_of(pod.uid))
        if step == RUNNING and pod.ip:
            return Step("Starting", f"waiting for GET {probe.path} on port {pod.port}")
        return step

    async def _wake(self, spec: SessionSpec, on_phase: PhaseListener) -> None:
        """Request the pod. While the API server is broken, say so and ask again. Raises ApiError if it refuses."""
        pauses = WAKE_TRIES.pauses()
        while True:
            try:
                await self.workloads.wake(spec)
            except (ApiConflict, ApiNotFound) as error:
                raise Unavailable(f"the session's objects are changing: {error}") from error
            except ApiBroken as error:
                self._reached(spec.uuid, Step(API_BROKEN, error.words, hinders=True), on_phase)
                await asyncio.sleep(next(pauses))
            else:
                self._reached(spec.uuid, NO_POD, on_phase)
                return

    def _reached(self, session: str, step: Step, on_phase: PhaseListener) -> None:
        if self.answering.reached(session, step):
            on_phase(step.phase)

    async def _appeared(self, session: str) -> SessionSpec:
        """Wait for the Session, which a front door may be creating at this moment."""
        loop, pauses = asyncio.get_running_loop(), APPEAR_LOOKS.pauses()
        deadline = loop.time() + APPEARS_WITHIN
        while True:
            spec = await self.resources.wakeable(session)
            if spec is not None:
                return spec
            if loop.time() > deadline:
                remedy = "no front door has created the Session resource; check the front door's log and its rights"
                raise PodCannotStart("SessionMissing", remedy)
            await asyncio.sleep(next(pauses))

    async def _still_wakeable(self, session: str) -> SessionSpec:
        """Return the Session as it is now: it may have been suspended, deleted or created anew during a wait."""
        spec = await self.resources.wakeable(session)
        if spec is None:
            raise Unavailable("the Session was deleted while its pod was to be started")
        return spec

    async def _until_volume_is_free(self, session: str) -> None:
        """Wait for the former pods to go: only one pod at a time can mount the volume."""
        while any(pod.leaving or pod.uid in self.answering.ended for pod in self.all_pods.of_session(session)):
            await self.all_pods.change(session)

    async def _with_address(self, session: str, probe: Probe, on_phase: PhaseListener) -> PodView:
        """Return the session's pod as soon as it has an address."""
        while True:
            pod = self.answering.candidate(session)
            if pod is None:
                await self._created_or_refused(session)
                continue
            if pod.trouble is not None and pod.trouble.final:
                raise PodCannotStart(pod.trouble.reason, pod.trouble.remedy)
            self._look(pod, probe, on_phase)
            if pod.ip:
                return pod
            await self.all_pods.change(session)

    async def _created_or_refused(self, session: str) -> None:
        """Wait a moment for the pod. Raises PodCannotStart if the cluster refuses to create it."""
        await self.all_pods.change(session)
        if self.answering.candidate(session) is None:
            trouble = await self.workloads.refusal(session)
            if trouble is not None:
                raise PodCannotStart(trouble.reason, trouble.remedy)

    def _too_late(self, session: str, probe: Probe) -> PodCannotStart:
        """Return the reason why the pod did not answer in time."""
        pod, seconds = self.answering.candidate(session), probe.startup_timeout
        step = self.answering.starting[session].step
        if pod is not None and not step.hinders:
            step = self._step_now(pod, probe)
        if step.hinders:
            return PodCannotStart(step.reason, step.words)
        if pod is not None and pod.step == RUNNING:
            remedy = f"GET {probe.path} was not answered with 2xx within {seconds:g} s; listen on the port in PORT, "
            return PodCannotStart("NeverReady", remedy + "or raise probe.startupTimeoutSeconds")
        still = "the cluster created no pod" if pod is None else f"it was still {step.words}"
        return PodCannotStart("StartedTooSlowly", f"after {seconds:g} s {still}; raise probe.startupTimeoutSeconds")

    # -- stop ----------------------------------------------------------------------------------------------------------

    async def stop_pod(self, session: str, uid: str, grace: float) -> None:
        """End the pod, and return once its deletion has begun."""
        pod = self.answering.by_uid.get(uid) or self.all_pods.get(uid)
        if pod is not None:
            self.answering.drop(pod)
        await self._end_claimed(session)
        if not await self.workloads.sleep(session) and pod is not None and not pod.claimed:
            # The session was woken meanwhile: it keeps its replica, but this pod is not addressed again.
            await self.workloads.end(pod)
        while (now := self.all_pods.get(uid)) is not None and not now.leaving:
            await self.all_pods.change(session)

    async def _end_claimed(self, session: str) -> None:
        """End the pods that came from a pool; no Deployment does."""
        for pod in self.all_pods.of_session(session):
            if pod.claimed and not pod.leaving:
                await self.workloads.end(pod)

    async def forget(self, session: str, *, files: bool) -> None:
        """Forget the session. A front door deletes the Session with its children; the volume has no owner."""
        for pod in self.all_pods.of_session(session):
            self.answering.drop(pod)
        self.answering.troubles.pop(session, None)
        await self.workloads.forget(session, deleted=files)
        if not files:
            for listener in self.on_expired:
                listener(session)
