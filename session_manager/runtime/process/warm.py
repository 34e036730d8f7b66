"""Warm pods: ready pods without a session, given to the next session that wakes.

A class with ``warm: N`` has a pool of N. A claim takes a pod out of it in one step of the event loop, so that no two
sessions get the same pod, and the pool is refilled in the background. Nothing is stored: the pods of a pool end with
their owner, like all others.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
from collections.abc import Iterable

from session_manager.aio.retry import Backoff
from session_manager.aio.tasks import cancel
from session_manager.domain.errors import PodCannotStart
from session_manager.domain.session_class import SessionClass
from session_manager.runtime.process.pods import Pod, Pods

# Low, since sessions that wake need the processors more.
MAX_STARTS = 2  # at once, for all pools together
REFILL_DELAY = 0.1  # seconds after a claim: about as long as the first turn of the claimed pod takes

log = logging.getLogger(__name__)


class WarmPods:
    """The pools of all classes with warm pods."""

    def __init__(self, pods: Pods, retry: Backoff) -> None:
        self._pods = pods
        self._retry = retry
        self._starts = asyncio.Semaphore(MAX_STARTS)
        self._pools: dict[str, _Pool] = {}

    async def keep(self, classes: Iterable[SessionClass]) -> None:
        """Keep a pool for each class with warm pods, and end the pools of classes that were changed or removed."""
        wanted = {each.name: each for each in classes if each.warm > 0}
        outdated = [pool for name, pool in self._pools.items() if wanted.get(name) != pool.session_class]
        for pool in outdated:
            del self._pools[pool.session_class.name]
        for name, session_class in wanted.items():
            if name not in self._pools:
                self._pools[name] = _Pool(session_class, self._pods, self._starts, self._retry)
        stopped = await asyncio.gather(*(pool.stop() for pool in outdated))
        await asyncio.gather(*map(self._pods.end, itertools.chain.from_iterable(stopped)))

    async def claim(self, session: str, session_class: SessionClass) -> Pod | None:
        """Give the session a pod, or return None if its class has no warm pods left."""
        pool = self._pools.get(session_class.name)
        if pool is None or pool.session_class != session_class:
            return None
        while (pod := pool.take()) is not None:
            if await self._pods.give(pod, session):
                pool.succeeded()
                return pod
            pool.failed("EndedUnused", "it had ended, or no longer listened, when a session claimed it")
        return None

    def gone(self, pod: Pod, reason: str) -> None:
        """Handle the end of a pod without a session."""
        for pool in self._pools.values():
            pool.gone(pod, reason)

    async def stop(self) -> None:
        """Stop refilling. The caller ends the ready pods, with all others."""
        pools, self._pools = self._pools, {}
        await asyncio.gather(*(pool.stop() for pool in pools.values()))


class _Pool:
    """``room`` counts the pods that are missing. A worker takes one and starts a pod; taking a pod out adds one."""

    def __init__(self, session_class: SessionClass, pods: Pods, starts: asyncio.Semaphore, retry: Backoff) -> None:
        self.session_class = session_class
        self._pods = pods
        self._starts = starts
        self._retry = retry
        self._ready: dict[Pod, float] = {}  # pod -> ready since, oldest first
        self._room = asyncio.Semaphore(session_class.warm)
        self._failures = 0
        self._not_before = 0.0
        self._logged: str | None = None
        self._loop = asyncio.get_running_loop()
        self._workers = [self._loop.create_task(self._work(), name="warm") for _ in range(MAX_STARTS)]

    async def stop(self) -> list[Pod]:
        """Stop refilling, and return the ready pods."""
        await cancel(*self._workers)
        ready, self._ready = list(self._ready), {}
        return ready

    def take(self) -> Pod | None:
        pod = next(iter(self._ready), None)
        if pod is not None:
            del self._ready[pod]
            self._loop.call_later(REFILL_DELAY, self._room.release)
        return pod

    def gone(self, pod: Pod, reason: str) -> None:
        since = self._ready.pop(pod, None)
        if since is None:
            return
        self._room.release()
        if self._loop.time() - since >= self._retry.last:
            self.succeeded()
        self.failed("EndedUnused", reason)

    async def _work(self) -> None:
        while True:
            await self._room.acquire()
            await asyncio.sleep(max(0.0, self._not_before - self._loop.time()))
            async with self._starts:
                pod = await self._start()
            if pod is None:
                self._room.release()
            else:
                self._ready[pod] = self._loop.time()

    async def _start(self) -> Pod | None:
        try:
            pod = await self._pods.start(None, self.session_class, lambda phase: None)
        except PodCannotStart as error:
            self.failed(error.reason, error.remedy)
            return None
        except Exception:
            log.exception("a warm pod did not start", extra={"event": "warm.failed", "class": self.session_class.name})
            self.failed("Unexpected", "")
            return None
        if pod.process.gone.is_set():
            self.failed("EndedUnused", "it ended as soon as it was ready")
            return None
        return pod

    def succeeded(self) -> None:
        """Forget earlier failures: a session got a pod, or a pod waited long enough."""
        self._failures = 0
        self._logged = None

    def failed(self, reason: str, remedy: str) -> None:
        """Wait before the next start, longer each time. A reason is logged once, until a start succeeds."""
        self._failures += 1
        self._not_before = self._loop.time() + self._retry.pause(self._failures)
        if self._logged != reason:
            self._logged = reason
            extra = {"event": "warm.failed", "class": self.session_class.name, "reason": reason, "remedy": remedy}
            log.warning("warm pods could not be kept; sessions start their own", extra=extra)
