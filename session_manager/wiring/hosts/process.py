"""Pods as processes of this machine. One front door of a data folder runs them; the others wait for its place."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from contextlib import suppress

from session_manager.activity.link import Link
from session_manager.activity.machine import MachineLease
from session_manager.activity.protocol import SessionGone
from session_manager.aio.retry import Backoff
from session_manager.domain.errors import StartupFailure, Unavailable
from session_manager.domain.session import Failure
from session_manager.domain.times import Micros
from session_manager.leadership.leadership import ONE_MACHINE, Leadership
from session_manager.runtime.classes import ConfiguredClasses, load_classes
from session_manager.runtime.process import ProcessRuntime
from session_manager.runtime.process.folders import OwnedByAnother
from session_manager.runtime.process.machine import MachineFile
from session_manager.scaling.scaler import Scaler
from session_manager.scaling.workers import ScalerKit, ScalerTimes
from session_manager.settings import Settings
from session_manager.store.protocol import Store
from session_manager.tracing.spans import Spans
from session_manager.wiring.health import Check, check_of
from session_manager.wiring.hosts import Host

log = logging.getLogger(__name__)

MACHINE_STAYS = 6  # heartbeats until it yields

OWNER_RETRY = 0.5  # seconds between tries to take the place of another front door
FAILURE_RETRY = Backoff(1.0, 30.0)


class PodHost(Host):
    """The pods of this data folder."""

    classes: ConfiguredClasses

    def __init__(self, settings: Settings, link: Link, store: Store, spans: Spans) -> None:
        self.classes = load_classes(settings)
        self._data_dir = settings.server.data_dir
        self._lease = MachineLease(link, MachineFile(settings.server.data_dir), settings.pods.heartbeat)
        self.machine = Leadership(
            self._lease,
            ONE_MACHINE,
            yields_after=MACHINE_STAYS * settings.pods.heartbeat if settings.backup.writer_yields else None,
        )
        super().__init__(settings, link, store, self.machine.confirm)
        self._runtime = ProcessRuntime.from_settings(settings)
        kit = ScalerKit(
            self.activity,
            self.classes,
            ScalerTimes.from_settings(settings),
            settings.pods.max_wakes,
            max_awake=settings.pods.max_awake,
            quotas=settings.quotas.by_user,
            spans=spans,
        )
        self._scaler = Scaler(kit, self._runtime)
        self.wake_times = self._scaler.workers.wake_times

    def checks(self) -> Mapping[str, Check]:
        return {"data_dir": check_of("DATA_DIR", self._data_dir)}

    def open(self) -> None:
        self._lease.open()

    def class_names(self) -> list[str]:
        return sorted(each.name for each in self.classes.all())

    async def run(self) -> None:
        """Take the place of the owner as soon as it is free, then run the pods until cancelled."""
        await self._own()
        log.info("this process owns the pods", extra={"event": "pods.owned"})
        await self._runtime.keep_warm(self.classes.all())
        await self._scaler.run()

    async def _own(self) -> None:
        failures = 0
        while True:
            try:
                return await self._runtime.start()
            except OwnedByAnother:
                await asyncio.sleep(OWNER_RETRY)
                continue
            except (StartupFailure, OSError) as error:
                reason = error.strerror or "" if isinstance(error, OSError) else error.detail
            failures += 1
            pause = FAILURE_RETRY.pause(failures)
            extra = {"event": "pods.cannot_start", "reason": reason, "retry_in": pause}
            log.error("this process cannot run pods: %s", reason, extra=extra)
            with suppress(Unavailable):
                await self._fail_waiting(Failure("PodsUnavailable", reason, Micros(0), failures), pause)
            await asyncio.sleep(pause)

    async def _fail_waiting(self, failure: Failure, retry_in: float) -> None:
        """Show the failure in the sessions that wait for a pod, unless another process runs the pods after all."""
        if await self.activity.watched():
            return
        for session, state in (await self.activity.awake()).items():
            if not state.address:
                with suppress(SessionGone):
                    await self.activity.fail(session, failure, retry_in)

    async def close(self, grace: float | None = None) -> None:
        await self._runtime.close(grace)

    async def gone(self, session: str) -> bool:
        return await self._runtime.gone(session)

    async def logs(self, session: str, tail: int) -> str:
        return await self._runtime.logs(session, tail)
