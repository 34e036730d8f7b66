"""The scaler: brings each session's pod to what Redis says is wanted.

One task per session that has something to do, so that what is done to one session is done in order; it
looks at the present state and takes one step, again and again, until there is nothing to do.  Wake messages only
say "look": whoever was missed is found by the tick.  Only the fence (a script, in one instant) decides that a pod
may go; while Redis is unreachable nothing is started or ended.
"""

from __future__ import annotations

import asyncio
import logging
from contextlib import suppress
from dataclasses import dataclass, replace

from session_manager.activity.protocol import Desire, Fenced, ScalerActivity, SessionGone
from session_manager.aio.retry import Backoff, until_available
from session_manager.aio.tasks import cancel, first_of
from session_manager.domain.errors import InvalidInput, PodCannotStart, Unavailable
from session_manager.domain.histogram import Histogram
from session_manager.domain.session import Failure
from session_manager.domain.session_class import SessionClass, SessionClasses, class_of_session
from session_manager.domain.times import Micros
from session_manager.runtime.protocol import Address, PodExit, Runtime
from session_manager.scaling.declared import Declared, NothingDeclared
from session_manager.scaling.start import Start

log = logging.getLogger(__name__)

CLASS_LAG = 1.0  # seconds


@dataclass(frozen=True, slots=True)
class ScalerTimes:
    """Seconds. ``retry_first`` doubles up to ``retry_last`` between tries of a start that fails.

    ``keep``: between looks at the sessions that are always on.
    """

    tick: float = 1.0
    heartbeat: float = 5.0
    retry_first: float = 5.0
    retry_last: float = 300.0
    keep: float = 10.0


class Scaler:
    """``wake_times``: of starts that went well, from when the pod was found wanted until its address was known."""

    def __init__(
        self,
        activity: ScalerActivity,
        runtime: Runtime,
        classes: SessionClasses,
        times: ScalerTimes,
        max_wakes: int,
        *,
        deputy: bool = False,
        declared: Declared | None = None,
    ) -> None:
        self._activity = activity
        self._runtime = runtime
        self._classes = classes
        self._times = times
        self._wakes = asyncio.Semaphore(max_wakes)
        self._workers: dict[str, asyncio.Task[None]] = {}
        self._pokes: dict[str, asyncio.Event] = {}
        self._started_as: dict[str, SessionClass] = {}
        self._working = False
        self._deputy = deputy
        self._declared = declared or NothingDeclared()
        self.wake_times = Histogram()

    async def run(self) -> None:
        """Watch, for ever; a deputy until somebody else does, and it is told by whoever made it what to look at.

        Cancelling stops the workers but no pod: ending those is the runtime's ``close``.
        """
        self._runtime.on_exit(self._exited)
        every_tick = Backoff(self._times.tick, self._times.tick)
        await until_available(self._disown, every_tick)
        if not await until_available(lambda: self._activity.beat(deputy=self._deputy), every_tick):
            return
        self._working = True
        if not self._deputy:
            self._activity.on_generation(self.poke_pods)
            await until_available(lambda: self._activity.on_wake(self.poke), every_tick)
        try:
            await first_of(self._beat(), self._tick(), self._keep())
        finally:
            await self._end_workers()

    async def _disown(self) -> None:
        """The first beat makes addresses count again: take back those of pods that went while nobody watched."""
        pods = self._runtime.pods()
        for session, state in (await self._activity.awake()).items():
            if state.address:
                with suppress(SessionGone):
                    desire = await self._activity.desire(session)
                    if desire.pod and (session not in pods or pods[session].uid != desire.pod):
                        await self._activity.lost(session, desire.pod)

    async def _end_workers(self) -> None:
        self._working = False
        await cancel(*self._workers.values())

    async def _beat(self) -> None:
        """Until there is no need for a deputy."""
        while True:
            await asyncio.sleep(self._times.heartbeat / 5)
            with suppress(Unavailable):
                if not await self._activity.beat(deputy=self._deputy):
                    return

    async def _tick(self) -> None:
        """Find what no message told: sessions that lack a pod, are due to sleep, or have a pod that nobody wants."""
        while True:
            with suppress(Unavailable):
                awake = await self._activity.awake()
                pods = self._runtime.pods()
                for session, state in awake.items():
                    if state.due or not state.address or session not in pods:
                        self.poke(session)
                for session in pods:
                    if session not in awake:
                        self.poke(session)
                if not self._deputy:
                    for session in await self._activity.unforgotten():
                        self.poke(session)
            await asyncio.sleep(self._times.tick)

    async def _keep(self) -> None:
        """Want the pods of sessions that are always on, each time for longer than until the next."""
        while True:
            for session, session_class in self._declared.always_on():
                with suppress(Unavailable, SessionGone):
                    await self.keep(session, session_class)
            await asyncio.sleep(self._times.keep)

    async def keep(self, session: str, session_class: SessionClass) -> None:
        """Want the pod of a session that is always on."""
        idle_timeout = max(session_class.idle_timeout, 4 * self._times.keep)
        await self._activity.add(session, (), replace(session_class, idle_timeout=idle_timeout))

    def poke_pods(self) -> None:
        for session in self._runtime.pods():
            self.poke(session)

    def _exited(self, exit_: PodExit) -> None:
        extra = {"event": "pod.exited", "session": exit_.session, "reason": exit_.reason}
        log.warning("a pod ended by itself", extra=extra)
        self.poke(exit_.session)

    def poke(self, session: str) -> None:
        """Have a look at this session, now or right after what is being done to it."""
        if not self._working:
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
                    await asyncio.sleep(self._times.tick)
                    poke.set()
                except SessionGone:
                    poke.set()
                except Exception:
                    # One session's trouble ends neither the scaler nor another session; the tick comes back to it.
                    log.exception("scaling failed", extra={"event": "scaler.failed", "session": session})
                    await asyncio.sleep(self._times.tick)
        finally:
            del self._pokes[session]
            del self._workers[session]

    async def _step(self, session: str, poke: asyncio.Event) -> bool:
        """Do the one thing that is next for this session; True to look again at once."""
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
            # Redis lost the address, so it may have lost more: the pod counts as one that may have seen anything.
            await self._publish(session, pod, session_class, old=True)
            return False
        if desire.due:
            return await self._activity.fence(session, session_class) is Fenced.PASSED
        return False

    def _class_of(self, session: str, desire: Desire) -> SessionClass:
        """The session's class by the name that Redis has, or what its pod was started as when Redis lost that."""
        if not desire.class_name and session in self._started_as:
            return self._started_as[session]
        return class_of_session(self._classes, desire.class_name)

    async def _step_without_pod(self, session: str, desire: Desire, poke: asyncio.Event) -> bool:
        if desire.pod:
            await self._activity.lost(session, desire.pod)
            return True
        if desire.wanted and not desire.class_name:
            # All that Redis has left is that it was wanted. Whoever wants it still says so again, with its class.
            await self._activity.lost(session, "")
            return False
        if desire.wanted:
            await self._start(session, desire, poke)
            return True
        return False

    async def _remove(self, session: str, pod: Address | None, desire: Desire) -> bool:
        """Forget what the runtime keeps. An expired session that is wanted again begins anew after that."""
        revived = not desire.deleted and pod is not None and desire.published == pod.uid
        if pod is not None and not revived:
            await self._runtime.stop_pod(session, pod.uid, grace=0.0)
        if self._deputy:
            return False  # what is kept belongs to the one who is away
        if not revived:
            await self._runtime.forget(session, files=desire.deleted or desire.ended == "deleted")
            self._started_as.pop(session, None)
        await self._activity.forgotten(session)
        return not desire.deleted

    async def _stop(self, session: str, pod: Address, session_class: SessionClass) -> None:
        await self._runtime.stop_pod(session, pod.uid, session_class.grace_period)
        log.info("pod stopped", extra={"event": "pod.stopped", "session": session})

    async def _publish(self, session: str, pod: Address, session_class: SessionClass, *, old: bool) -> None:
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
                pod = await Start(self._activity, self._runtime, session, session_class, poke).run()
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
        """InvalidInput when there is none of this name, also a moment later: front doors may know it sooner."""
        with suppress(InvalidInput):
            return self._classes.get(name)
        await asyncio.sleep(CLASS_LAG)
        return self._classes.get(name)

    async def _fail(self, session: str, desire: Desire, error: PodCannotStart) -> None:
        tries = desire.failed_tries + 1
        pause = Backoff(self._times.retry_first, self._times.retry_last).pause(tries)
        await self._activity.fail(session, Failure(error.reason, error.remedy, Micros(0), tries), pause)
