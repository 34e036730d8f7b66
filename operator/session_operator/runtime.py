"""Pods in Kubernetes: the Runtime that the operator's scaler works with.

A pod answers once its own probe has; the Ready condition, which comes up to a second later, only tells about pods whose
start this process did not see.  What ended, leaves or was asked to end is never given out again, and an operator that
restarts finds every pod as it was: closing ends none.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from contextlib import suppress

from session_manager.domain.errors import PodCannotStart, Unavailable
from session_manager.domain.session_class import Probe, SessionClass
from session_manager.runtime.kubernetes.cluster import PODS, ApiConflict, ApiNotFound, Cluster
from session_manager.runtime.probe import until_ready
from session_manager.runtime.protocol import Address, ExitListener, PhaseListener, PodExit
from session_operator.children import Children
from session_operator.conditions import Trouble
from session_operator.manifests import SessionSpec
from session_operator.pods import Pods, PodView
from session_operator.resources import WITHOUT_TRYING, Resources
from session_operator.trouble import trouble_of_deployment
from session_operator.warm import WarmPods

log = logging.getLogger(__name__)

LOOK = 1.0  # seconds between looks at what no pod tells
FIRST_LOOK = 2.0  # seconds that a new operator gives the pods that it finds to answer, before it says what there is
APPEAR = 10.0  # seconds until a Session that has work has to be there


class KubernetesRuntime:
    def __init__(self, cluster: Cluster, resources: Resources, children: Children, pods: Pods, warm: WarmPods) -> None:
        self._cluster = cluster
        self._resources = resources
        self._children = children
        self._pods = pods
        self._warm = warm
        self._answering: dict[str, PodView] = {}
        self._ended: set[str] = set()
        self._exit_listeners: list[ExitListener] = []
        self._change_listeners: list[Callable[[str], None]] = []
        self._start_listeners: list[Callable[[str, float], None]] = []
        self._starting: set[str] = set()
        self._discoveries: dict[str, asyncio.Task[None]] = {}
        self.troubles: dict[str, Trouble] = {}
        pods.listen(self._on_pod)

    async def start(self) -> None:
        """Know the pods that are there, and which of them answer: what seems gone would be started again."""
        await self._pods.start()
        if self._discoveries:
            await asyncio.wait(self._discoveries.values(), timeout=FIRST_LOOK)

    async def close(self, grace: float | None = None) -> None:
        """Watch no more. The pods stay: the next operator finds them."""
        await self._pods.close()
        for task in list(self._discoveries.values()):
            await _cancel(task)

    def on_exit(self, listener: ExitListener) -> None:
        self._exit_listeners.append(listener)

    def on_change(self, listener: Callable[[str], None]) -> None:
        """Call ``listener`` with the session whose pod or whose trouble is another one now."""
        self._change_listeners.append(listener)

    def on_started(self, listener: Callable[[str, float], None]) -> None:
        """Call ``listener`` with what came of each start, in a word or two, and the seconds that it took."""
        self._start_listeners.append(listener)

    def pods(self) -> dict[str, Address]:
        return {pod.session: _address(pod) for pod in self._answering.values()}

    def pod_of(self, session: str) -> PodView | None:
        return next((pod for pod in self._answering.values() if pod.session == session), None)

    # -- what the watch tells ------------------------------------------------------------------------------------------

    def _on_pod(self, pod: PodView, exists: bool) -> None:
        known = self._answering.get(pod.uid)
        if pod.session and pod.uid not in self._ended and exists and _alive(pod):
            if known is None and pod.ready:
                self._answers(pod)
            elif known is None and pod.ip:
                self._discover(pod)
            return
        if known is not None:
            self._exited(known, pod.ended or ("it was deleted" if exists else "it is gone"))
            if exists and not pod.leaving:
                # Its program was started again in the same pod, with the same address, and knows nothing of before.
                self._end_soon(pod)
        if not exists:
            self._ended.discard(pod.uid)

    def _discover(self, pod: PodView) -> None:
        """A pod that nobody here has started: KEDA did, or an operator before this one."""
        if pod.session not in self._starting and pod.session not in self._discoveries:
            task = asyncio.create_task(self._probe_found(pod), name=f"discover {pod.name}")
            self._discoveries[pod.session] = task
            task.add_done_callback(lambda _: self._discoveries.pop(pod.session, None))

    async def _probe_found(self, pod: PodView) -> None:
        probe = Probe(path=pod.path)
        try:
            async with asyncio.timeout(probe.startup_timeout):
                if await self._probed(pod, probe):
                    self._answers(pod)
                return
        except (TimeoutError, PodCannotStart):
            log.warning("ending a pod that never answered", extra={"event": "pod.silent", "session": pod.session})
        with suppress(Unavailable):
            await self._give_up(pod.session)

    def _exited(self, pod: PodView, reason: str) -> None:
        self._drop(pod)
        exit_ = PodExit(pod.session, pod.uid, reason)
        for listener in self._exit_listeners:
            listener(exit_)

    def abandon(self, session: str) -> None:
        """The Session is gone: its pods are on their way out, and nobody may be sent to them any more."""
        self.troubles.pop(session, None)
        pod = self.pod_of(session)
        if pod is not None:
            self._exited(pod, "its Session was deleted")

    def _answers(self, pod: PodView) -> None:
        if pod.uid in self._ended:
            return
        self._answering[pod.uid] = pod
        self.troubles.pop(pod.session, None)
        self._changed(pod.session)

    def _drop(self, pod: PodView) -> None:
        self._ended.add(pod.uid)
        if self._answering.pop(pod.uid, None) is not None:
            self._changed(pod.session)

    def _changed(self, session: str) -> None:
        for listener in self._change_listeners:
            listener(session)

    def _end_soon(self, pod: PodView) -> None:
        task = asyncio.create_task(self._delete(pod), name=f"end {pod.name}")
        task.add_done_callback(lambda done: done.cancelled() or done.exception())

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
        self._starting.add(session)
        try:
            if session in self._discoveries:
                await _cancel(self._discoveries[session])
            async with asyncio.timeout(session_class.probe.startup_timeout):
                pod = await self._start(session, session_class, on_phase)
        except TimeoutError:
            error = self._too_late(session, session_class)
            self._failed(session, error)
            await self._give_up(session)
            raise error from None
        except PodCannotStart as error:
            self._failed(session, error)
            await self._give_up(session)
            raise
        except BaseException:
            await asyncio.shield(self._give_up(session))
            raise
        finally:
            self._starting.discard(session)
        self._answers(pod)
        return _address(pod)

    async def _start(self, session: str, session_class: SessionClass, on_phase: PhaseListener) -> PodView:
        spec = await self._appeared(session)
        if spec.class_spec.storage is not None:
            await self._until_gone(session)
        pod = await self._warm.claim(spec)
        if pod is None:
            await self._children.wake(spec)
        while True:
            pod = await self._with_address(session, on_phase)
            on_phase(f"waiting for GET {session_class.probe.path} on port {pod.port}")
            if await self._probed(pod, session_class.probe):
                return pod

    async def _appeared(self, session: str) -> SessionSpec:
        """A front door makes the Session; its event may be on the way."""
        deadline = asyncio.get_running_loop().time() + APPEAR
        while True:
            spec = await self._resources.wakeable(session)
            if spec is not None:
                return spec
            if asyncio.get_running_loop().time() > deadline:
                remedy = "no front door has made the Session resource; look at its log and at its rights"
                raise PodCannotStart("SessionMissing", remedy)
            await asyncio.sleep(APPEAR / 50)

    async def _with_address(self, session: str, on_phase: PhaseListener) -> PodView:
        """The session's pod as soon as it has an address. PodCannotStart for trouble that waiting does not mend."""
        told = ""
        while True:
            pod = self._candidate(session)
            if pod is None:
                await self._pods.change(session, LOOK)
                if self._candidate(session) is None:
                    await self._check_creation(session)
                continue
            if pod.trouble is not None and pod.trouble.final:
                raise PodCannotStart(pod.trouble.reason, pod.trouble.remedy)
            if pod.ip:
                return pod
            words = pod.step if pod.trouble is None else pod.trouble.remedy
            if words != told:
                on_phase(words)
                told = words
            await self._pods.change(session, LOOK)

    def _candidate(self, session: str) -> PodView | None:
        found = [pod for pod in self._pods.of_session(session) if not pod.leaving and pod.uid not in self._ended]
        return found[0] if found else None

    async def _check_creation(self, session: str) -> None:
        deployment = await self._children.deployment(session)
        trouble = None if deployment is None else trouble_of_deployment(deployment)
        if trouble is not None:
            raise PodCannotStart(trouble.reason, trouble.remedy)

    async def _probed(self, pod: PodView, probe: Probe) -> bool:
        """Whether it answered; False when the pod went away before. PodCannotStart when its container ended."""
        probing = asyncio.create_task(until_ready(pod.ip, pod.port, probe))
        try:
            while not probing.done():
                changing = asyncio.create_task(self._pods.change(pod.session, LOOK))
                await asyncio.wait((probing, changing), return_when=asyncio.FIRST_COMPLETED)
                await _cancel(changing)
                now = self._pods.get(pod.uid)
                if now is None or now.leaving:
                    return False
                if now.trouble is not None and now.trouble.final:
                    raise PodCannotStart(now.trouble.reason, now.trouble.remedy)
            return True
        finally:
            await _cancel(probing)

    def _too_late(self, session: str, session_class: SessionClass) -> PodCannotStart:
        pod = self._candidate(session)
        seconds = session_class.probe.startup_timeout
        if pod is not None and pod.trouble is not None:
            return PodCannotStart(pod.trouble.reason, pod.trouble.remedy)
        if pod is not None and pod.ip:
            path = session_class.probe.path
            remedy = f"GET {path} was not answered with 2xx within {seconds:g} s; listen on the port in PORT, or raise "
            return PodCannotStart("NeverReady", remedy + "probe.startupTimeoutSeconds")
        step = "the cluster made no pod" if pod is None else f"it was still {pod.step}"
        return PodCannotStart("StartedTooSlowly", f"after {seconds:g} s {step}; raise probe.startupTimeoutSeconds")

    def _failed(self, session: str, error: PodCannotStart) -> None:
        if error.reason in WITHOUT_TRYING:
            return  # the status tells those by what it sees, for as long as it sees it
        self.troubles[session] = Trouble(error.reason, error.remedy)
        self._changed(session)

    async def _give_up(self, session: str) -> None:
        """Nothing of the start is left."""
        with suppress(Unavailable):
            for pod in self._pods.of_session(session):
                self._ended.add(pod.uid)
                if pod.claimed:
                    await self._delete(pod)
            await self._children.sleep(session)

    # -- stop ----------------------------------------------------------------------------------------------------------

    async def stop_pod(self, session: str, uid: str, grace: float) -> None:
        """As the Protocol says; a pod without storage counts as gone once its deletion has begun."""
        pod = self._answering.get(uid) or self._pods.get(uid)
        if pod is not None:
            self._drop(pod)
        if pod is not None and pod.claimed:
            await self._delete(pod)
        elif not await self._children.sleep(session) and pod is not None:
            # Somebody has woken the session meanwhile: it keeps its replica, but this pod is not addressed again.
            await self._delete(pod)
        while (now := self._pods.get(uid)) is not None and not now.leaving:
            await self._pods.change(session, LOOK)

    async def _until_gone(self, session: str) -> None:
        """A volume is given to one pod at a time."""
        while any(pod.leaving or pod.uid in self._ended for pod in self._pods.of_session(session)):
            await self._pods.change(session, LOOK)

    async def _delete(self, pod: PodView) -> None:
        with suppress(ApiConflict):
            await self._cluster.delete(PODS, pod.name, uid=pod.uid)

    # -- what is kept --------------------------------------------------------------------------------------------------

    async def forget(self, session: str, *, files: bool) -> None:
        """The Session itself is deleted by a front door, and takes its children with it; a volume belongs to nobody."""
        for pod in self._pods.of_session(session):
            self._drop(pod)
        self.troubles.pop(session, None)
        await self._children.forget(session, deleted=files)

    async def gone(self, session: str) -> bool:
        return not self._pods.of_session(session) and await self._children.deployment(session) is None

    async def logs(self, session: str, tail: int) -> str:
        pods = self._pods.of_session(session)
        if not pods:
            return ""
        try:
            return await self._cluster.logs(pods[-1].name, tail)
        except ApiNotFound:
            return ""


def _alive(pod: PodView) -> bool:
    return not pod.leaving and not pod.ended


def _address(pod: PodView) -> Address:
    return Address(pod.ip, pod.port, pod.uid)


async def _cancel(task: asyncio.Task[None]) -> None:
    if not task.done():
        task.cancel()
        await asyncio.wait((task,))
