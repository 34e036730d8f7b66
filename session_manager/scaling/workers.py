"""Brings the pod of each session to what Redis says is wanted: one worker for each session that has something to do.

So everything done to one session is done in order.  A worker reads the present state and takes one step, again and
again, until there is nothing left to do.  Only the fence, one script in Redis, decides that a pod may go.  While Redis
is unreachable no pod is started or stopped.
"""

from __future__ import annotations

import asyncio
import logging
from contextlib import suppress
from dataclasses import replace

from session_manager.activity.protocol import Desire, Fenced, ScalerActivity, SessionGone
from session_manager.aio.retry import Backoff
from session_manager.aio.tasks import Background, cancel, wait_for_either
from session_manager.domain.errors import InvalidInput, PodCannotStart, Unavailable
from session_manager.domain.histogram import Histogram
from session_manager.domain.session import Failure
from session_manager.domain.session_class import SessionClass, class_of_session
from session_manager.domain.times import Micros
from session_manager.runtime.protocol import PodAddress, Runtime
from session_manager.scaling.kit import ScalerKit

log = logging.getLogger(__name__)

CLASS_LAG = 1.0  # seconds in which the scaler may learn of a class later than a front door


class Workers:
    """A ``deputy`` leaves what the runtime keeps of sessions to the scaler that it stands in for.

    ``wake_times``: of starts that succeeded, from the moment the pod was found wanted until its address was published.
    """

    def __init__(self, kit: ScalerKit, runtime: Runtime, *, deputy: bool) -> None:
        self._activity = kit.activity
        self._classes = kit.classes
        self._declared = kit.declared
        self._tick = kit.times.tick
        self._retries = Backoff(kit.times.retry_first, kit.times.retry_last)
        self._wakes = asyncio.Semaphore(kit.max_wakes)
        self._runtime = runtime
        self._deputy = deputy
        self._workers: dict[str, asyncio.Task[None]] = {}
        self._pokes: dict[str, asyncio.Event] = {}
        self._started_as: dict[str, SessionClass] = {}
        self._open = False
        self.wake_times = Histogram()

    def open(self) -> None:
        """Work from now on. Until then pokes are ignored."""
        self._open = True

    async def close(self) -> None:
        """Stop the workers, but no pod."""
        self._open = False
        await cancel(*self._workers.values())

    def poke_pods(self) -> None:
        for session in self._runtime.pods():
            self.poke(session)

    def poke(self, session: str) -> None:
        """Look at this session now, or right after the present step."""
        if not self._open:
            return
        poke = self._pokes.get(session)
        if poke is not None:
            poke.set()
            return
        self._pokes[session] = poke = asyncio.Event()
        poke.set()
        self._workers[session] = asyncio.create_task(self._work(session, poke), name=f"scale {session}")

    async def _work(self, session: str, poke: asyncio.Event) -> None:
        try:
            while poke.is_set():
                poke.clear()
                try:
                    if await self._step(session, poke):
                        poke.set()
                except Unavailable:
                    await asyncio.sleep(self._tick)
                    poke.set()
                except SessionGone:
                    poke.set()
                except Exception:
                    # The failure of one session must not end the scaler or another session. The next tick retries.
                    log.exception("scaling failed", extra={"event": "scaler.failed", "session": session})
                    await asyncio.sleep(self._tick)
        finally:
            del self._pokes[session]
            del self._workers[session]

    async def _step(self, session: str, poke: asyncio.Event) -> bool:
        """Do the next thing for this session. Return True to look again at once."""
        desire = await self._activity.desire(session)
        if not desire.class_name:
            desire = replace(desire, class_name=self._declared.class_name(session))
        pod = self._runtime.pods().get(session)
        if desire.deleted or (desire.ended and not self._deputy):
            return await self._remove(session, pod, desire)
        if pod is None:
            self._started_as.pop(session, None)
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
            return await self._activity.fence(session, session_class) is Fenced.PASSED
        return False

    def _class_of(self, session: str, desire: Desire) -> SessionClass:
        """Return the class that Redis names, or the one that the pod was started with if Redis has lost the name."""
        if not desire.class_name and session in self._started_as:
            return self._started_as[session]
        return class_of_session(self._classes, desire.class_name)

    async def _step_without_pod(self, session: str, desire: Desire, poke: asyncio.Event) -> bool:
        if desire.pod:
            await self._activity.lost(session, desire.pod)
            return True
        if desire.wanted and not desire.class_name:
            # Redis knows only that the session was wanted. A front door that still wants it will wake it again.
            await self._activity.lost(session, "")
            return False
        if desire.wanted:
            await self._start(session, desire, poke)
            return True
        return False

    async def _remove(self, session: str, pod: PodAddress | None, desire: Desire) -> bool:
        """Forget what the runtime keeps. An expired session that is wanted again starts anew after that."""
        revived = not desire.deleted and pod is not None and desire.published == pod.uid
        if pod is not None and not revived:
            await self._runtime.stop_pod(session, pod.uid, grace=0.0)
        if self._deputy:
            return False
        if not revived:
            await self._runtime.forget(session, files=desire.deleted or desire.ended == "deleted")
            self._started_as.pop(session, None)
        await self._activity.forgotten(session)
        return not desire.deleted

    async def _stop(self, session: str, pod: PodAddress, session_class: SessionClass) -> None:
        await self._runtime.stop_pod(session, pod.uid, session_class.grace_period)
        log.info("pod stopped", extra={"event": "pod.stopped", "session": session})

    async def _publish(self, session: str, pod: PodAddress, session_class: SessionClass, *, old: bool) -> None:
        if not await self._activity.publish(session, pod, session_class, old=old):
            await self._stop(session, pod, session_class)

    # -- starting ----------------------------------------------------------------------------------------------------

    async def _start(self, session: str, desire: Desire, poke: asyncio.Event) -> None:
        generation = self._activity.generation
        loop = asyncio.get_running_loop()
        wanted = loop.time()
        async with self._wakes:
            try:
                session_class = await self._known_class(desire.class_name)
                pod = await self._start_while_wanted(session, session_class, poke)
            except InvalidInput as error:
                remedy = f"{error.detail}; add the class again, or delete the session"
                await self._fail(session, desire, PodCannotStart("ClassMissing", remedy))
                return
            except PodCannotStart as error:
                await self._fail(session, desire, error)
                return
        if pod is not None:
            self._started_as[session] = session_class
            await self._publish(session, pod, session_class, old=generation != self._activity.generation)
            self.wake_times.observe(loop.time() - wanted)

    async def _known_class(self, name: str) -> SessionClass:
        """Return the class. Raises InvalidInput if it is still unknown a moment later."""
        with suppress(InvalidInput):
            return self._classes.get(name)
        await asyncio.sleep(CLASS_LAG)
        return self._classes.get(name)

    async def _start_while_wanted(
        self, session: str, session_class: SessionClass, poke: asyncio.Event
    ) -> PodAddress | None:
        """Start a pod. Return None if the session stopped wanting it before it answered. Raises PodCannotStart."""
        loop = asyncio.get_running_loop()
        began = loop.time()
        phases = _Phases(self._activity, session)
        starting = asyncio.create_task(self._runtime.start_pod(session, session_class, phases.report))
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
            await phases.close()
        extra = {"event": "pod.started", "session": session, "duration": round(loop.time() - began, 3)}
        log.info("pod started", extra=extra)
        return pod

    async def _still_wanted(self, session: str) -> bool:
        try:
            desire = await self._activity.desire(session)
        except Unavailable:
            return True
        return desire.wanted and not desire.deleted

    async def _fail(self, session: str, desire: Desire, error: PodCannotStart) -> None:
        tries = desire.failed_tries + 1
        failure = Failure(error.reason, error.remedy, Micros(0), tries)
        await self._activity.fail(session, failure, self._retries.pause(tries))


class _Phases:
    """Reports the phase of a start to Redis. Only the latest phase matters, and the start does not wait for it."""

    def __init__(self, activity: ScalerActivity, session: str) -> None:
        self._activity = activity
        self._session = session
        self._latest: str | None = None
        self._reporting: asyncio.Task[None] | None = None
        self._background = Background()

    def report(self, phase: str) -> None:
        self._latest = phase
        if self._reporting is None or self._reporting.done():
            self._reporting = asyncio.create_task(self._report_latest(), name=f"phase of {self._session}")
            self._background.add(self._reporting)

    async def _report_latest(self) -> None:
        while self._latest is not None:
            phase, self._latest = self._latest, None
            with suppress(Unavailable, SessionGone):
                await self._activity.phase(self._session, phase)

    async def close(self) -> None:
        await self._background.close()
