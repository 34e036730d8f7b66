"""Keeps track of which pods answer, and which must never be addressed again.

A pod answers once it has answered its probe, or once it is Ready if this process did not see it start.  A pod that has
ended, is being deleted or was asked to end is never given out again.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field

from session_manager.aio.retry import until_available
from session_manager.aio.tasks import Background, cancel
from session_manager.domain.errors import PodCannotStart, Unavailable
from session_manager.domain.session_class import Probe
from session_manager.runtime.kubernetes.cluster import ApiError
from session_manager.runtime.kubernetes.pods import Pods, PodView
from session_manager.runtime.kubernetes.steps import ASKING, Step
from session_manager.runtime.kubernetes.trouble import Trouble
from session_manager.runtime.kubernetes.workloads import Workloads
from session_manager.runtime.protocol import ExitListener, PodExit

log = logging.getLogger(__name__)

FIRST_LOOK = 2.0  # seconds that pods found at startup get to answer, before the scaler works with those that do


@dataclass(frozen=True, slots=True)
class Starting:
    """A start in progress. ``since``: seconds of the loop's clock."""

    step: Step
    since: float


@dataclass(slots=True, eq=False)
class Answering:
    """``by_uid``: the pods that answer. ``ended``: UIDs of pods that have ended or were asked to end.

    ``troubles``: why the last start of a session failed. ``starting``: the starts in progress, by session; ``waiting``:
    those that have to wait for others first.
    ``on_exit`` are called with each pod that ended by itself, ``on_change`` with each session whose answering pod or
    trouble has changed, ``on_step`` with each whose start has begun, goes on, or has ended.
    """

    pods: Pods
    workloads: Workloads
    by_uid: dict[str, PodView] = field(default_factory=dict)
    ended: set[str] = field(default_factory=set)
    troubles: dict[str, Trouble] = field(default_factory=dict)
    starting: dict[str, Starting] = field(default_factory=dict)
    waiting: dict[str, Starting] = field(default_factory=dict)
    on_exit: list[ExitListener] = field(default_factory=list)
    on_change: list[Callable[[str], None]] = field(default_factory=list)
    on_step: list[Callable[[str], None]] = field(default_factory=list)
    discoveries: dict[str, asyncio.Task[None]] = field(default_factory=dict)
    background: Background = field(default_factory=Background)

    def __post_init__(self) -> None:
        self.pods.listen(self._on_pod)

    async def first_look(self) -> None:
        """Wait for the pods that were found to answer, since a pod that seems gone would be started again."""
        if self.discoveries:
            await asyncio.wait(self.discoveries.values(), timeout=FIRST_LOOK)

    # -- lookups -------------------------------------------------------------------------------------------------------

    def of_session(self, session: str) -> PodView | None:
        return next((pod for pod in self.by_uid.values() if pod.session == session), None)

    def busy(self, session: str) -> bool:
        """Return True if its pod answers, is being started, or is being probed."""
        return session in self.starting or session in self.discoveries or self.of_session(session) is not None

    def candidate(self, session: str) -> PodView | None:
        """Return the oldest pod of the session that may still come to answer."""
        pods = self.pods.of_session(session)
        return next((pod for pod in pods if not pod.leaving and pod.uid not in self.ended), None)

    # -- what the runtime and the operator report ----------------------------------------------------------------------

    def answers(self, pod: PodView) -> None:
        if pod.uid in self.ended:
            return
        self.by_uid[pod.uid] = pod
        self.troubles.pop(pod.session, None)
        self._changed(pod.session)

    def drop(self, pod: PodView) -> None:
        """Never give the pod out again."""
        self.ended.add(pod.uid)
        if self.by_uid.pop(pod.uid, None) is not None:
            self._changed(pod.session)

    def abandon(self, session: str) -> None:
        """The Session is gone, and its pods are being deleted: never give them out again."""
        self.troubles.pop(session, None)
        pod = self.of_session(session)
        if pod is not None:
            self._exited(pod, "its Session was deleted")

    def failed(self, session: str, trouble: Trouble) -> None:
        self.troubles[session] = trouble
        self._changed(session)

    async def give_up(self, session: str) -> None:
        """End everything that a start has begun. What cannot be ended now is ended as a stray."""
        with suppress(Unavailable, ApiError):
            for pod in self.pods.of_session(session):
                self.ended.add(pod.uid)
                if pod.claimed:
                    await self.workloads.end(pod)
            await self.workloads.sleep(session)

    async def take_over(self, session: str) -> None:
        """A start begins, and from now on it alone probes the session's pod."""
        self.starting[session] = Starting(ASKING, asyncio.get_running_loop().time())
        self._stepped(session)
        if session in self.discoveries:
            await cancel(self.discoveries[session])

    def waits(self, session: str, words: str) -> None:
        """A start waits for what the words say, or no longer waits if they are empty."""
        before = self.waiting.pop(session, None)
        if before is None and not words:
            return
        if words:
            since = asyncio.get_running_loop().time() if before is None else before.since
            self.waiting[session] = Starting(Step("Waiting", words), since)
        self._stepped(session)

    def start_of(self, session: str) -> Starting | None:
        return self.starting.get(session) or self.waiting.get(session)

    def reached(self, session: str, step: Step) -> bool:
        """Take down the step that a start has reached. Return False if it is the same as before."""
        before = self.starting[session]
        if before.step == step:
            return False
        self.starting[session] = Starting(step, before.since)
        self._stepped(session)
        return True

    def start_ended(self, session: str) -> None:
        if self.starting.pop(session, None) is not None:
            self._stepped(session)

    # -- what the watch reports ----------------------------------------------------------------------------------------

    def _on_pod(self, pod: PodView, exists: bool) -> None:
        known = self.by_uid.get(pod.uid)
        if pod.session and pod.uid not in self.ended and exists and pod.alive:
            if known is None and pod.ready:
                self.answers(pod)
            elif known is None and pod.ip:
                self._discover(pod)
            return
        if known is not None:
            why = pod.ended or ("it was deleted" if exists else "it is gone")
            self._exited(known, why, pod.last_words)
            if exists and not pod.leaving:
                # Its program was restarted in the same pod, at the same address, and has lost its state.
                self.background.start(until_available(lambda: self.workloads.end(pod)), f"end {pod.name}")
        if not exists:
            self.ended.discard(pod.uid)

    def _discover(self, pod: PodView) -> None:
        """Probe a pod that this process has not started: KEDA did, or an earlier scaler."""
        if pod.session not in self.starting and pod.session not in self.discoveries:
            task = asyncio.create_task(self._probe_found(pod), name=f"discover {pod.name}")
            self.background.add(task)
            self.discoveries[pod.session] = task
            task.add_done_callback(lambda _: self.discoveries.pop(pod.session, None))

    async def _probe_found(self, pod: PodView) -> None:
        probe = Probe(path=pod.path)
        try:
            async with asyncio.timeout(probe.startup_timeout):
                if await self.pods.answers(pod, probe):
                    self.answers(pod)
                return
        except (TimeoutError, PodCannotStart):
            log.warning("ended a pod that never answered", extra={"event": "pod.silent", "session": pod.session})
        await self.give_up(pod.session)

    def _exited(self, pod: PodView, reason: str, last_words: str = "") -> None:
        self.drop(pod)
        for listener in self.on_exit:
            listener(PodExit(pod.session, pod.uid, reason, last_words))

    def _stepped(self, session: str) -> None:
        for listener in self.on_step:
            listener(session)

    def _changed(self, session: str) -> None:
        for listener in self.on_change:
            listener(session)
