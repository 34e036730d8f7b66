"""The operator as a process: watches, the queue, the scaler and health in one event loop.

Wakes do not wait for kopf: the scaler runs as soon as the pods and the classes are known, while kopf is still listing.
"""

from __future__ import annotations

import asyncio
import logging
import signal
import sys
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

import kopf
import uvloop

from session_manager.activity.link import Link
from session_manager.activity.reconnecting import Target
from session_manager.activity.redis import RedisActivity
from session_manager.aio.retry import Backoff, until_available
from session_manager.aio.tasks import cancel, first_of, unless
from session_manager.domain.errors import StartupFailure, Unavailable
from session_manager.domain.values import Json
from session_manager.logs import setup_logging
from session_manager.runtime.kubernetes import names
from session_manager.runtime.kubernetes.cluster import DEPLOYMENTS, ApiError, Cluster
from session_manager.runtime.kubernetes.pod_events import PodEvents
from session_manager.runtime.kubernetes.pods import Pods
from session_manager.runtime.kubernetes.resources import Resources, SessionView
from session_manager.runtime.kubernetes.runtime import KubernetesRuntime
from session_manager.runtime.kubernetes.session_class import ClassSpec, ClusterClasses
from session_manager.runtime.kubernetes.trouble import Trouble
from session_manager.runtime.protocol import PodExit
from session_manager.scaling.scaler import Scaler
from session_manager.scaling.workers import ScalerKit, ScalerTimes
from session_manager.tracing.open import open_spans
from session_operator import events
from session_operator.children import Children
from session_operator.classes import ClassKeeper
from session_operator.health import HealthServer, Metrics
from session_operator.keda import Keda
from session_operator.manifests import RedisTrigger
from session_operator.reconcile import Reconciler
from session_operator.settings import OperatorSettings
from session_operator.statuses import Statuses
from session_operator.strays import Strays
from session_operator.warm import WarmPods

log = logging.getLogger(__name__)

BACKOFF = Backoff(0.2, 5.0)  # between tries to reach Redis and the API at the start
WATCH_GRACE = 30.0  # seconds for which a watch may fail while /healthz answers 200


class Operator:
    """The parts of the operator, wired once."""

    def __init__(self, settings: OperatorSettings) -> None:
        self._settings = settings
        self.cluster = Cluster(settings.kubernetes.namespace)
        pod_env = {"SESSION_MANAGER_URL": settings.pods.front_door_url} if settings.pods.front_door_url else {}
        classes = ClusterClasses.from_settings(settings, pod_env, settings.classes.rules().refusal)
        self.activity = RedisActivity(
            Link.from_settings(settings), lease=settings.sessions.lease, heartbeat=settings.pods.heartbeat
        )
        self.resources = Resources(self.cluster, classes, with_status=True)
        self.pods = Pods(self.cluster)
        self.warm = WarmPods(self.cluster, self.pods)
        redis = Target.from_settings(settings)
        address = settings.operator.keda_redis_address or str(redis)
        trigger = RedisTrigger(address, redis.tls is not None, redis.database)
        children = Children(self.cluster, self.warm, settings.operator.scaler, trigger)
        self.pod_events = PodEvents(self.cluster)
        self.runtime = KubernetesRuntime(self.resources, self.pods, children, self.pod_events.of)
        answering = self.runtime.answering
        times = ScalerTimes.from_settings(settings)
        self.spans = open_spans(settings.traces)
        kit = ScalerKit(
            self.activity,
            classes,
            times,
            settings.pods.max_wakes,
            self.resources.always_on,
            self.resources.class_name,
            self.resources.user,
            settings.pods.max_awake,
            settings.quotas.by_user,
            self.spans,
        )
        self.scaler = Scaler(kit, self.runtime)
        self.classes = ClassKeeper(self.cluster, self.resources, self.warm)
        self.statuses = Statuses(
            self.cluster, self.resources, children, answering, lambda: len(self.queue) > 0, self.classes.refusal_of
        )
        reconcilers = settings.operator.reconcilers
        self.reconciler = Reconciler(
            self.resources, children, answering, self.scaler, self.statuses, self.classes, reconcilers
        )
        self.queue = self.reconciler.queue
        self.strays = Strays(self.activity, self.resources, children, answering, settings.operator.stray_after)
        self.keda = Keda(self.cluster, self.resources, children, self.queue.add)
        self.metrics = Metrics()
        self.recorder = events.Recorder(self.cluster, self.metrics.event)
        self.health = HealthServer(self.metrics, self._lacks)
        answering.on_change.append(self.queue.add)
        answering.on_step.append(self.statuses.queue.add)
        self.scaler.workers.on_wait = answering.waits
        self._measure()
        self._record()
        self._tasks: list[asyncio.Task[None]] = []
        self._stop = asyncio.Event()

    def _measure(self) -> None:
        queues = {"sessions": self.queue, "statuses": self.statuses.queue, "classes": self.classes.statuses}
        for name, queue in queues.items():
            queue.observe = self.metrics.reconciled(name)
        self.metrics.queued.set_function(lambda: len(self.queue))
        self.metrics.retrying.set_function(lambda: sum(len(queue.tries) for queue in queues.values()))
        self.metrics.pods.set_function(lambda: len(self.runtime.pods()))
        self.metrics.sessions.set_function(lambda: len(self.resources.sessions.objects))
        self.metrics.refused.set_function(lambda: self.classes.refused)
        self.runtime.on_started.append(self.metrics.started)

    def _record(self) -> None:
        """Turn what happens into Events."""
        views, record = self.resources.sessions.objects, self.recorder.record

        def on_status(view: SessionView, before: Json, after: Json) -> None:
            happening = events.of_status(view, before, after)
            if happening is not None:
                record(happening)

        def on_exit(exit_: PodExit) -> None:
            if exit_.session in views:
                record(events.of_exit(views[exit_.session], exit_.reason))

        def on_expired(session: str) -> None:
            if session in views:
                record(events.of_expiry(views[session]))

        def on_verdict(spec: ClassSpec, refusal: Trouble | None) -> None:
            if refusal is not None:
                record(events.of_refusal(spec, refusal))

        self.statuses.on_written.append(on_status)
        self.runtime.on_exit(on_exit)
        self.runtime.on_expired.append(on_expired)
        self.classes.on_verdict.append(on_verdict)

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
        self.pod_events.watch.start()
        await _until_done(self.keda.look)
        await _until_done(self.activity.start)
        await self.resources.classes.listed.wait()  # without them no pod can be started
        await self.runtime.start()
        self._spawn(self.scaler.run(), "scaler")
        await first_of(self._until_stopped(), _until_done(self._list_deployments))
        self._spawn(self.queue.run(), "queue")
        self._spawn(self.statuses.queue.run(), "statuses")
        self._spawn(self.classes.statuses.run(), "class statuses")
        self._spawn(self.recorder.run(), "events")
        self._spawn(self.warm.run(), "refill")
        self._spawn(self.strays.run(), "strays")
        self._spawn(self.keda.run(), "keda")
        self._spawn(self._run_kopf(), "kopf")
        log.info("operator is running", extra={"event": "operator.running", "namespace": self.cluster.namespace})

    async def _list_deployments(self) -> None:
        """Know the Deployments before the queue runs, or each session would cost a failed create."""
        found, _ = await self.cluster.list(DEPLOYMENTS, names.MANAGED_SELECTOR)
        for deployment in found:
            self.reconciler.on_deployment(None, deployment)

    async def _run_kopf(self) -> None:
        """Feed the Deployments and Services to the reconciler.

        Of kopf only ``on.event`` is used. It neither retries nor sets finalizers, which would block the deletion of a
        Session while the operator is down. The queue retries by itself.
        """
        registry = kopf.OperatorRegistry()
        kopf.on.login(registry=registry)(_login)

        @kopf.on.event("apps", "v1", "deployments", registry=registry, id="deployments")
        async def on_deployment(event: Any, **_: Any) -> None:
            self.reconciler.on_deployment(event["type"], event["object"])

        @kopf.on.event("", "v1", "services", registry=registry, id="services")
        async def on_service(event: Any, **_: Any) -> None:
            self.reconciler.on_service(event["type"], event["object"])

        ready = asyncio.Event()
        running = kopf.operator(
            registry=registry,
            settings=_kopf_settings(),
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
        try:
            done, _ = await asyncio.wait((stopping, *self._tasks), return_when=asyncio.FIRST_COMPLETED)
        finally:
            await cancel(stopping)
        for task in done - {stopping}:
            if not self._stop.is_set():
                log.critical("a loop ended", exc_info=task.exception(), extra={"event": "loop.ended"})
                raise StartupFailure(f"the loop {task.get_name()} ended")

    async def _close(self) -> None:
        self.runtime.ending = True
        await cancel(*self._tasks)
        await self.keda.close()
        await self.pod_events.watch.close()
        await self.runtime.close()
        await self.resources.close()
        await self.health.close()
        await self.activity.close()
        await asyncio.to_thread(self.spans.close)
        await self.cluster.close()
        log.info("operator stopped", extra={"event": "operator.stopped"})

    def _lacks(self) -> str | None:
        """Return why the operator cannot work, or None."""
        if any(task.done() for task in self._tasks):
            return "a loop ended"
        watches = (self.resources.class_watch, self.resources.sessions, self.pods.watch)
        # One that has never worked, because the CRDs or rights are missing, gets no grace.
        failing = (watch for watch in watches if watch.failed_for(WATCH_GRACE if watch.listed.is_set() else 0.0))
        outage = next((watch.failure for watch in failing), None)
        return outage or self.resources.lacks


def _login(**kwargs: Any) -> kopf.ConnectionInfo | None:
    """Log in by KUBECONFIG, or by the service account of the pod."""
    return kopf.login_with_kubeconfig(**kwargs) or kopf.login_with_service_account(**kwargs)


def _kopf_settings() -> kopf.OperatorSettings:
    """Turn off posting, scanning and peering, so that rights to one namespace suffice."""
    found = kopf.OperatorSettings()
    found.posting.enabled = False
    found.scanning.disabled = True
    found.queueing.exit_timeout = 0.1  # seconds; the handlers only fill the queue, so nothing is lost with them
    for kind in ("deployments.v1.apps", "services.v1"):
        found.watching.label_selectors[kind] = names.MANAGED_SELECTOR
    return found


async def _until_done(action: Callable[[], Awaitable[None]]) -> None:
    """Repeat ``action`` while Redis or the API is unavailable, or the API rejects it: rights may be granted later."""

    async def attempt() -> None:
        try:
            await action()
        except ApiError as error:
            raise Unavailable(f"the Kubernetes API rejected a request: {error}") from error

    await until_available(attempt, BACKOFF, _report)


def _report(error: Unavailable) -> None:
    log.warning("the start waits for a dependency: %s", error.detail, extra={"event": "start.unreachable"})


async def _run(settings: OperatorSettings) -> None:
    await Operator(settings).run()


def main() -> None:
    """Run the operator with settings from the environment."""
    try:
        settings = OperatorSettings.from_environment()
        setup_logging(settings)
        logging.getLogger("session_operator").setLevel(settings.logs.level)
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(_run(settings))
    except StartupFailure as error:
        sys.exit(error.detail)
