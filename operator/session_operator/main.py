"""The operator as a process: watches, the queue, the scaler and health in one event loop.

Wakes do not wait for kopf: the scaler runs as soon as the pods and the classes are known, while kopf is still listing.
"""

from __future__ import annotations

import asyncio
import logging
import signal
import sys
from collections.abc import Coroutine
from typing import Any

import kopf
import uvloop

from session_manager.activity.link import Link
from session_manager.activity.reconnecting import Target
from session_manager.activity.redis import RedisActivity
from session_manager.aio.retry import Backoff, until_available
from session_manager.aio.tasks import cancel, unless
from session_manager.domain.errors import StartupFailure, Unavailable
from session_manager.logs import setup_logging
from session_manager.runtime.kubernetes import names
from session_manager.runtime.kubernetes.cluster import DEPLOYMENTS, Cluster
from session_manager.runtime.kubernetes.pods import Pods
from session_manager.runtime.kubernetes.resources import Resources
from session_manager.runtime.kubernetes.runtime import KubernetesRuntime
from session_manager.runtime.kubernetes.session_class import ClusterClasses
from session_manager.scaling.kit import ScalerKit, ScalerTimes
from session_manager.scaling.scaler import Scaler
from session_operator import handlers
from session_operator.children import Children
from session_operator.handlers import Events
from session_operator.health import HealthServer, Metrics
from session_operator.keda import Keda
from session_operator.manifests import RedisTrigger
from session_operator.reconcile import Reconciler
from session_operator.refill import Refill
from session_operator.settings import OperatorSettings
from session_operator.statuses import Statuses
from session_operator.strays import Strays
from session_operator.warm import WarmPods
from session_operator.work_queue import WorkQueue

log = logging.getLogger(__name__)

BACKOFF = Backoff(0.2, 5.0)  # between tries to reach Redis and the API at the start


class Operator:
    """The parts of the operator, wired once."""

    def __init__(self, settings: OperatorSettings) -> None:
        self._settings = settings
        self.cluster = Cluster(settings.kubernetes.namespace)
        pod_env = {"SESSION_MANAGER_URL": settings.pods.front_door_url} if settings.pods.front_door_url else {}
        classes = ClusterClasses.from_settings(settings, pod_env)
        self.activity = RedisActivity(
            Link.from_settings(settings), lease=settings.sessions.lease, heartbeat=settings.pods.heartbeat
        )
        self.resources = Resources(self.cluster, classes, with_status=True)
        self.pods = Pods(self.cluster)
        self.refill = Refill(self.cluster, self.pods)
        warm = WarmPods(self.cluster, self.pods, self.refill)
        children = Children(self.cluster, warm, settings.operator.scaler, _trigger(settings))
        self.runtime = KubernetesRuntime(self.resources, self.pods, children)
        answering = self.runtime.answering
        times = ScalerTimes.from_settings(settings)
        kit = ScalerKit(self.activity, classes, times, settings.pods.max_wakes, self.resources)
        self.scaler = Scaler(kit, self.runtime)
        self.statuses = Statuses(self.cluster, self.resources, children, answering, lambda: len(self.queue) > 0)
        reconciler = Reconciler(
            self.resources, children, answering, warm, self.activity, self.scaler.keep, self.statuses
        )
        self.queue = WorkQueue(reconciler.reconcile, settings.operator.reconcilers)
        self.events = Events(self.resources, children, reconciler, self.queue)
        self.strays = Strays(self.activity, self.resources, children, answering, settings.operator.stray_after)
        self.keda = Keda(
            self.cluster, self.resources, children, self.queue.add, by_default=settings.operator.scaler == "keda"
        )
        self.metrics = Metrics()
        self.health = HealthServer(self.metrics, self._healthy, self._collect)
        answering.on_change(self.queue.add)
        self.runtime.on_started(self.metrics.started)
        self._tasks: list[asyncio.Task[None]] = []
        self._stop = asyncio.Event()

    async def run(self) -> None:
        """Work until SIGTERM or SIGINT; pods stay as they are. Raises StartupFailure for what no retry fixes."""
        self._take_signals()
        try:
            await self.cluster.start()
            port = await self.health.start(self._settings.operator.host, self._settings.operator.port)
            log.info("operator is starting", extra={"event": "operator.starting", "port": port})
            await unless(self._stop, self._start())
            await self._until_stopped()
        finally:
            await self._close()

    def _take_signals(self) -> None:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, self._stop.set)

    async def _start(self) -> None:
        self.resources.start()
        await until_available(self.keda.look, BACKOFF, _report)
        await until_available(self.activity.start, BACKOFF, _report)
        await self.resources.classes.listed.wait()  # without them no pod can be started
        await self.runtime.start()
        self._spawn(self.scaler.run(), "scaler")
        await until_available(self._list_deployments, BACKOFF, _report)
        self._spawn(self.queue.run(), "queue")
        self._spawn(self.statuses.run(), "statuses")
        self._spawn(self.refill.run(), "refill")
        self._spawn(self.strays.run(), "strays")
        self._spawn(self.keda.run(), "keda")
        self._spawn(self._run_kopf(), "kopf")
        log.info("operator is running", extra={"event": "operator.running", "namespace": self.cluster.namespace})

    async def _list_deployments(self) -> None:
        """Know the Deployments before the queue runs, or each session would cost a failed create."""
        found, _ = await self.cluster.list(DEPLOYMENTS, names.MANAGED_SELECTOR)
        for deployment in found:
            self.events.on_deployment(None, deployment)

    async def _run_kopf(self) -> None:
        registry = kopf.OperatorRegistry()
        handlers.register(registry, self.events)
        ready = asyncio.Event()
        running = kopf.operator(
            registry=registry,
            settings=handlers.settings(),
            namespaces=[self.cluster.namespace],
            standalone=True,
            ready_flag=ready,
        )
        async with asyncio.TaskGroup() as group:
            group.create_task(running, name="kopf operator")
            await ready.wait()
            # kopf takes over the signals when it starts, and would then cancel every task of this loop.
            self._take_signals()

    def _spawn(self, coroutine: Coroutine[Any, Any, None], name: str) -> None:
        self._tasks.append(asyncio.create_task(coroutine, name=name))

    async def _until_stopped(self) -> None:
        """Wait for the signal. If a loop ends that never should, raise StartupFailure: a restart is better."""
        stopping = asyncio.create_task(self._stop.wait())
        done, _ = await asyncio.wait((stopping, *self._tasks), return_when=asyncio.FIRST_COMPLETED)
        await cancel(stopping)
        for task in done - {stopping}:
            if not self._stop.is_set():
                log.critical("a loop ended", exc_info=task.exception(), extra={"event": "loop.ended"})
                raise StartupFailure(f"the loop {task.get_name()} ended")

    async def _close(self) -> None:
        self.runtime.leave()
        await cancel(*self._tasks)
        await self.keda.close()
        await self.runtime.close()
        await self.resources.close()
        await self.health.close()
        await self.activity.close()
        await self.cluster.close()
        log.info("operator stopped", extra={"event": "operator.stopped"})

    def _healthy(self) -> bool:
        return all(not task.done() for task in self._tasks)

    def _collect(self) -> None:
        self.metrics.queued.set(len(self.queue))
        self.metrics.pods.set(len(self.runtime.pods()))
        self.metrics.sessions.set(len(self.resources.sessions.objects))


def _trigger(settings: OperatorSettings) -> RedisTrigger:
    target = Target.from_settings(settings)
    return RedisTrigger(settings.operator.keda_redis_address or str(target), target.tls is not None, target.database)


def _report(error: Unavailable) -> None:
    log.warning("a dependency cannot be reached yet: %s", error.detail, extra={"event": "start.unreachable"})


async def _main(settings: OperatorSettings) -> None:
    await Operator(settings).run()


def main() -> None:
    """Run the operator with settings from the environment."""
    try:
        settings = OperatorSettings.from_environment()
        setup_logging(settings)
        logging.getLogger("session_operator").setLevel(settings.logs.level)
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(_main(settings))
    except StartupFailure as error:
        sys.exit(error.detail)
