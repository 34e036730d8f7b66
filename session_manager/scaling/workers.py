"""Brings the pod of each session to what Redis says is wanted: one worker for each session that has something to do.

So everything done to one session is done in order.  A worker reads the present state and takes one step, again and
again, until there is nothing left to do.  Only the fence, one script in Redis, decides that a pod may go.  While Redis
is unreachable no pod is started or stopped.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Self

from session_manager.activity.protocol import Desire, Fenced, ScalerActivity, SessionGone
from session_manager.aio.retry import Backoff
from session_manager.aio.tasks import Background, cancel, wait_for_either
from session_manager.domain.errors import InvalidInput, PodCannotStart, Unavailable
from session_manager.domain.histogram import Histogram
from session_manager.domain.quota import NO_QUOTAS, Quotas
from session_manager.domain.session import Failure
from session_manager.domain.session_class import SessionClass, SessionClasses, class_of_session
from session_manager.domain.times import Micros
from session_manager.runtime.protocol import PodAddress, Runtime
from session_manager.scaling.slots import Slots
from session_manager.settings import Settings
from session_manager.tracing.context import Trace, current
from session_manager.tracing.spans import Spans

log = logging.getLogger(__name__)

CLASS_LAG = 1.0  # seconds in which the scaler may learn of a class later than a front door


@dataclass(frozen=True, slots=True)
class ScalerTimes:
    """Seconds. A start that fails is retried after ``retry_first``, doubling up to ``retry_last``.

    ``keep``: between two looks at the sessions that are always on.
    """

    tick: float = 1.0
    heartbeat: float = 5.0
    retry_first: float = 5.0
    retry_last: float = 300.0
    keep: float = 10.0

    @classmethod
    def from_settings(cls, settings: Settings) -> Self:
        return cls(
            tick=min(1.0, settings.sessions.idle_timeout / 4),
            heartbeat=settings.pods.heartbeat,
            retry_first=settings.pods.retry_first,
            retry_last=settings.pods.retry_last,
        )


@dataclass(frozen=True, slots=True)
class ScalerKit:
    """``max_wakes``: pods that may start at the same time. ``max_awake``: pods altogether; 0: any number.

    What the cluster declares holds whatever Redis knows: ``always_on`` returns the sessions whose mode is AlwaysOn and
    whose class is known, ``class_name`` and ``user`` what is known of a session, or "" if it is not known.
    """

    activity: ScalerActivity
    classes: SessionClasses
    times: ScalerTimes
    max_wakes: int
    always_on: Callable[[], Iterable[tuple[str, SessionClass]]] = tuple
    class_name: Callable[[str], str] = lambda session: ""
    user: Callable[[str], str] = lambda session: ""
    max_awake: int = 0
    quotas: Quotas = NO_QUOTAS
    spans: Spans = field(default_factory=Spans)


@dataclass(slots=True, eq=False)
class Workers:
    """A ``deputy`` leaves what the runtime keeps of sessions to the scaler that it stands in for.

    While it is not ``open``, pokes are ignored.
    ``wake_times``: of starts that succeeded, from the moment the pod was found wanted until its address was published.
    ``on_wait`` is called with a session and what its start waits for before it begins; "" when it no longer does.
    """

    kit: ScalerKit
    runtime: Runtime
    deputy: bool
    open: bool = False
    slots: Slots = field(init=False)
    wake_times: Histogram = field(default_factory=Histogram)
    tasks: dict[str, asyncio.Task[None]] = field(default_factory=dict)
    pokes: dict[str, asyncio.Event] = field(default_factory=dict)
    started_as: dict[str, SessionClass] = field(default_factory=dict)
    on_wait: Callable[[str, str], None] = lambda session, words: None

    def __post_init__(self) -> None:
        self.slots = Slots(self.kit.max_wakes, self.kit.max_awake, self.kit.quotas.of)

    async def close(self) -> None:
        """Stop the workers, but no pod."""
        self.open = False
        await cancel(*self.tasks.values())

    def poke_pods(self) -> None:
        for session in self.runtime.pods():
            self.poke(session)

    def poke(self, session: str) -> None:
        """Look at this session now, or right after the present step."""
        if not self.open:
            return
        poke = self.pokes.get(session)
        if poke is not None:
            poke.set()
            return
        self.pokes[session] = poke = asyncio.Event()
        poke.set()
        self.tasks[session] = asyncio.create_task(self._work(session, poke), name=f"scale {session}")

    async def _work(self, session: str, poke: asyncio.Event) -> None:
        try:
            while poke.is_set():
                poke.clear()
                try:
                    if await self._step(session, poke):
                        poke.set()
                except Unavailable:
                    await asyncio.sleep(self.kit.times.tick)
                    poke.set()
                except SessionGone:
                    poke.set()
                except Exception:
                    # The failure of one session must not end the scaler or another session. The next tick retries.
                    log.exception("scaling failed", extra={"event": "scaler.failed", "session": session})
                    await asyncio.sleep(self.kit.times.tick)
        finally:
            del self.pokes[session]
            del self.tasks[session]
            if session not in self.runtime.pods():
                self.slots.left(session)

    async def _step(self, session: str, poke: asyncio.Event) -> bool:
        """Do the next thing for this session. Return True to look again at once."""
        desire = await self.kit.activity.desire(session)
        if not desire.class_name:
            desire = replace(desire, class_name=self.kit.class_name(session))
        pod = self.runtime.pods().get(session)
        if pod is None:
            self.slots.left(session)
        else:
            self.slots.found(session, self.user_of(session, desire.user))
        if desire.deleted or (desire.ended and not self.deputy):
            return await self._remove(session, pod, desire)
        if pod is None:
            self.started_as.pop(session, None)
            return await self._step_without_pod(session, desire, poke)
        session_class = self._class_of(session, desire)
        if desire.retire == pod.uid:
            await self._stop(session, pod, session_class)
            return True
        if desire.published != pod.uid:
            # Redis lost the address, and possibly more: the pod may have seen any message.
            await self._publish(session, pod, session_class, old=True)
            return False
        if desire.due:
            return await self.kit.activity.fence(session, session_class) is Fenced.PASSED
        return False

    def user_of(self, session: str, user: str) -> str:
        """Return whose session it is: the user that Redis or the cluster knows, or else the session by itself."""
        return user or self.kit.user(session) or session

    def _class_of(self, session: str, desire: Desire) -> SessionClass:
        """Return the class that Redis names, or the one that the pod was started with if Redis has lost the name."""
        if not desire.class_name and session in self.started_as:
            return self.started_as[session]
        return class_of_session(self.kit.classes, desire.class_name)

    async def _step_without_pod(self, session: str, desire: Desire, poke: asyncio.Event) -> bool:
        if desire.pod:
            await self.kit.activity.lost(session, desire.pod)
            return True
        if desire.wanted and not desire.class_name:
            # Redis knows only that the session was wanted. A front door that still wants it will wake it again.
            await self.kit.activity.lost(session, "")
            return False
        if desire.wanted:
            await self._start(session, desire, poke)
            return True
        return False

    async def _remove(self, session: str, pod: PodAddress | None, desire: Desire) -> bool:
        """Forget what the runtime keeps. An expired session that is wanted again starts anew after that."""
        revived = not desire.deleted and pod is not None and desire.published == pod.uid
        if pod is not None and not revived:
            await self.runtime.stop_pod(session, pod.uid, grace=0.0)
        if self.deputy:
            return False
        if desire.ended and not revived:  # a deleted session without it has been forgotten
            await self.runtime.forget(session, files=desire.deleted or desire.ended == "deleted")
            self.started_as.pop(session, None)
        await self.kit.activity.forgotten(session)
        return not desire.deleted

    async def _stop(self, session: str, pod: PodAddress, session_class: SessionClass) -> None:
        await self.runtime.stop_pod(session, pod.uid, session_class.grace_period)
        log.info("pod stopped", extra={"event": "pod.stopped", "session": session})

    async def _publish(self, session: str, pod: PodAddress, session_class: SessionClass, *, old: bool) -> None:
        if not await self.kit.activity.publish(session, pod, session_class, old=old):
            await self._stop(session, pod, session_class)

    # -- starting ----------------------------------------------------------------------------------------------------

    async def _start(self, session: str, desire: Desire, poke: asyncio.Event) -> None:
        generation = self.kit.activity.generation
        loop = asyncio.get_running_loop()
        wanted, began = loop.time(), time.time()
        trace = Trace.stored(desire.trace)
        current.set(trace)
        if not await self._has_slot(session, desire, poke):
            self.slots.started(session)  # another program may have started a pod while the slot was given
            return
        try:
            await self.kit.activity.admit(session)
            session_class = await self._known_class(desire.class_name)
            pod = await self._start_while_wanted(session, session_class, poke)
        except InvalidInput as error:
            remedy = f"{error.detail}; add the class again, or delete the session"
            await self._fail(session, desire, PodCannotStart("ClassMissing", remedy))
            return
        except PodCannotStart as error:
            await self._fail(session, desire, error)
            return
        except (Unavailable, SessionGone):
            raise
        except Exception:
            # A bug, perhaps only with this session. Without back-off it would fill the log and starve the others.
            log.exception("a start failed unexpectedly", extra={"event": "scaler.failed", "session": session})
            await self._fail(session, desire, PodCannotStart("InternalError", "the scaler failed; see its log"))
            return
        finally:
            self.slots.started(session)
        if pod is not None:
            self.started_as[session] = session_class
            await self._publish(session, pod, session_class, old=generation != self.kit.activity.generation)
            self.wake_times.observe(loop.time() - wanted)
            self.kit.spans.between("wake", trace, began, time.time(), session=session)

    async def _has_slot(self, session: str, desire: Desire, poke: asyncio.Event) -> bool:
        """Wait for the slots of a pod. Return False if the session stopped wanting it before, or has one.

        What it waits for is its phase meanwhile.
        """
        asked = self.slots.ask(session, self.user_of(session, desire.user))
        phases, phase = _Phases(self.kit.activity, session), ""
        try:
            while not asked.done():
                before, phase = phase, self.slots.why(session)
                if phase != before:
                    phases.report(phase)
                    self.on_wait(session, phase)
                await wait_for_either(asked, poke.wait())
                if poke.is_set() and not asked.done():
                    poke.clear()
                    # KEDA may have started a pod for a push of another client.
                    if session in self.runtime.pods() or not await self._still_wanted(session):
                        return False
        finally:
            self.on_wait(session, "")
            await phases.background.close()
        return True

    async def _known_class(self, name: str) -> SessionClass:
        """Return the class. Raises InvalidInput if it is still unknown a moment later."""
        with suppress(InvalidInput):
            return self.kit.classes.get(name)
        await asyncio.sleep(CLASS_LAG)
        return self.kit.classes.get(name)

    async def _start_while_wanted(
        self, session: str, session_class: SessionClass, poke: asyncio.Event
    ) -> PodAddress | None:
        """Start a pod. Return None if the session stopped wanting it before it answered. Raises PodCannotStart."""
        loop = asyncio.get_running_loop()
        began = loop.time()
        phases = _Phases(self.kit.activity, session)
        starting = asyncio.create_task(self.runtime.start_pod(session, session_class, phases.report))
        try:
            while not starting.done():
                await wait_for_either(starting, poke.wait())
                if poke.is_set() and not starting.done():
                    poke.clear()
                    if not await self._still_wanted(session):
                        await cancel(starting)
            if starting.cancelled():
                return None
            # The start may have ended while Redis was asked. Publishing will show whether its pod is still wanted.
            pod = starting.result()
        finally:
            await cancel(starting)
            await phases.background.close()
        extra = {"event": "pod.started", "session": session, "duration": round(loop.time() - began, 3)}
        log.info("pod started", extra=extra)
        return pod

    async def _still_wanted(self, session: str) -> bool:
        try:
            desire = await self.kit.activity.desire(session)
        except Unavailable:
            return True
        return desire.wanted and not desire.deleted

    async def _fail(self, session: str, desire: Desire, error: PodCannotStart) -> None:
        tries = desire.failed_tries + 1
        retries = Backoff(self.kit.times.retry_first, self.kit.times.retry_last)
        failure = Failure(error.reason, error.remedy, Micros(0), tries)
        await self.kit.activity.fail(session, failure, retries.pause(tries))


@dataclass(slots=True, eq=False)
class _Phases:
    """Reports the phase of a start to Redis. Only the latest phase matters, and the start does not wait for it."""

    activity: ScalerActivity
    session: str
    latest: str | None = None
    reporting: bool = False
    background: Background = field(default_factory=Background)

    def report(self, phase: str) -> None:
        self.latest = phase
        if not self.reporting:
            self.reporting = True
            self.background.start(self._report_latest(), f"phase of {self.session}")

    async def _report_latest(self) -> None:
        try:
            while self.latest is not None:
                phase, self.latest = self.latest, None
                with suppress(Unavailable, SessionGone):
                    await self.activity.phase(self.session, phase)
        finally:
            self.reporting = False
