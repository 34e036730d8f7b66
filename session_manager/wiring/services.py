"""Wires the parts of a front door, starts them, and stops them in the right order."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable, Coroutine
from functools import partial
from typing import Any

from session_manager.activity.link import Link
from session_manager.aio.retry import Backoff, until_available
from session_manager.aio.tasks import cancel, first_of
from session_manager.domain.adk.model import ClassAndTtl
from session_manager.domain.errors import StartupFailure, Unavailable
from session_manager.domain.session_class import class_for_app
from session_manager.domain.times import micros
from session_manager.leadership.leadership import State
from session_manager.people.room import Room
from session_manager.people.tokens import SECRET_NAME, Tokens
from session_manager.settings import Settings
from session_manager.store.open import open_store
from session_manager.tracing.open import open_spans
from session_manager.turns.adk import AdkHistory
from session_manager.turns.drain import Drains
from session_manager.turns.feed import Feed
from session_manager.turns.kit import Kit, TurnTools
from session_manager.turns.lifecycle import Lifecycle
from session_manager.turns.repair import Repair
from session_manager.turns.service import Turns
from session_manager.wiring.backups import open_service, open_writer
from session_manager.wiring.health import Health
from session_manager.wiring.hosts import open_host

log = logging.getLogger(__name__)

BACKOFF = Backoff(0.2, 5.0)  # between tries to reach what was away at the start
FEED_POLL = 5.0  # seconds; two reads of SQL each, for every watcher


class Services:
    """Everything behind the routes. ``stopping``: callers should use another front door."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.stopping = False
        self.room = Room(settings.capacity)
        self.link = Link.from_settings(settings)
        self.backups = open_service(settings)
        self.writer = open_writer(settings, self.backups)
        self.store = open_store(settings, self.writer.leadership.fence if self.writer else None, self._adopt_as)
        self.spans = open_spans(settings.traces)
        self.host = open_host(settings, self.link, self.store, self.spans)
        self.activity, self.pods = self.host.activity, self.host.pods
        self.machine, self.classes = self.host.machine, self.host.classes
        of_writer = self.writer.leadership if self.writer else None
        self._leaderships = [each for each in (of_writer, self.machine) if each is not None]
        self.tokens = Tokens(partial(self.store.secret, SECRET_NAME))
        kit = Kit(self.store, self.activity, self.classes, self.host)
        self.tools = TurnTools(self.pods, self.tokens, AdkHistory(self.store), self.spans)
        self.drains = Drains(kit, self.tools, settings.sessions.max_drains, settings.sessions.repair_interval)
        self.feed = Feed(kit, FEED_POLL)
        self.turns = Turns(kit, self.tools, self.drains, self.feed)
        self.lifecycle = Lifecycle(kit, self.host)
        self.repair = Repair(kit, self.drains, self.lifecycle, settings.sessions.repair_interval)
        self.at_end: list[Callable[[], None]] = []  # called when this closes, once requests have ended
        self._tasks: list[asyncio.Task[None]] = []
        self._connecting: asyncio.Task[None] | None = None
        self.health = Health({"redis": self.activity.ping, "database": self.store.ping, **self.host.checks()})

    def _adopt_as(self, app: str) -> ClassAndTtl:
        """Return the class for a session that a real ADK service created."""
        session_class = class_for_app(self.classes, app)
        return ClassAndTtl(session_class.name, micros(session_class.ttl))

    async def start(self) -> None:
        """Start everything. What cannot be reached yet is retried in the background.

        Raises StartupFailure for what no retry fixes.
        """
        self._log_storage()
        self.host.open()
        store_up = redis_up = False
        if self.writer is None:  # else it may take as long as another instance stays
            store_up = await self._try(self._start_store, "database")
            redis_up = await self._try(self._start_activity, "redis")
        self._spawn(self._connect(store_up, redis_up), "connect")
        self._connecting = self._tasks[-1]

    def _log_storage(self) -> None:
        _, _, path = self.store.uri.partition("sqlite:///")
        facts = {
            "uri": self.store.uri,
            "local_db": path or None,
            "backup_bucket": self.backups.url,
            "backup_mode": self.settings.backup.mode if self.backups.url else "off",
            "one_writer": self.writer is not None,
        }
        log.info("durable facts are stored in %s", self.store.uri, extra={"event": "start.storage", **facts})

    async def _start_store(self) -> None:
        if self.writer is None:
            await self.backups.restore_if_missing()
            await self.store.start()
        else:
            await self.writer.begin()
            await self.store.start()
            await self.writer.opened()

    async def _start_activity(self) -> None:
        await self.activity.start()
        if self.machine is not None:
            await self.machine.begin()

    async def _try(self, start: Callable[[], Coroutine[Any, Any, None]], what: str) -> bool:
        try:
            await start()
        except Unavailable as error:
            reason = str(error.__cause__ or error)
            extra = {"event": "start.unreachable", "what": what, "reason": reason}
            log.warning("%s cannot be reached yet and is retried: %s", what, reason, extra=extra)
            return False
        return True

    async def _connect(self, store_up: bool, redis_up: bool) -> None:
        """Retry what was unreachable, then start the loops."""
        pauses = BACKOFF.pauses()
        while not (store_up and redis_up):
            await asyncio.sleep(next(pauses))
            store_up = store_up or await self._try(self._start_store, "database")
            redis_up = redis_up or await self._try(self._start_activity, "redis")
        self._spawn(self._work(), "work")

    async def _work(self) -> None:
        """Run the loops, once this machine runs the pods."""
        if self.machine is not None:
            await self.machine.until_held()
        self._spawn(until_available(lambda: self.activity.on_gone(self.pods.drop)), "gone pods")
        self._spawn(self.drains.run(), "ready")
        self._spawn(self.repair.run(), "repair")
        self._spawn(self.tools.adk_history.run(), "history")
        self._spawn(self.host.run(), "pods")
        self._spawn(self.backups.run(), "backups")
        self._spawn(self.health.run(), "health")

    def _spawn(self, coroutine: Coroutine[Any, Any, None], name: str) -> None:
        task = asyncio.create_task(coroutine, name=name)
        task.add_done_callback(_report)
        self._tasks.append(task)

    def stop_taking_work(self) -> None:
        self.stopping = True
        self.drains.stop()

    async def drain(self, patience: float) -> None:
        """Stop claiming, and give running turns ``patience`` seconds. Turns that are cut off are delivered again."""
        self.stop_taking_work()
        if any(each.state is State.LOST for each in self._leaderships):
            patience = 0.0  # another instance has taken over, so their results could not be recorded
        await asyncio.gather(self.turns.close(patience), self.drains.close(patience))

    async def until_refused(self) -> None:
        """Wait until another instance asks for the database or the pods and is to get them.

        Raises StartupFailure if another instance has taken over, or if a dependency that could not be reached at the
        start rejects this process.
        """
        if self._connecting is not None:
            await asyncio.shield(self._connecting)
        await first_of(asyncio.Event().wait(), *(each.until_over() for each in self._leaderships))

    async def close(self, patience: float | None = None, grace: float | None = None) -> None:
        """Drain, then stop the loops, the pods and the connections. This may be repeated.

        ``patience`` is ``shutdown_timeout`` by default. ``grace``: seconds that a pod gets between SIGTERM and SIGKILL,
        by default what its class says.
        """
        await self.drain(self.settings.server.shutdown_timeout if patience is None else patience)
        for call in self.at_end:
            call()
        await cancel(*self._tasks)
        await self.health.close()
        with contextlib.suppress(Unavailable):
            await self.tools.adk_history.flush()
        await self.host.close(grace)
        await self.tools.late.close()
        if self.machine is not None:
            await self.machine.release()
            await self.machine.close()
        await self.activity.close()
        await self.pods.close()
        await self.store.close()
        # Last, because everything acknowledged must be in the last backup and reach the next writer.
        if self.writer is None:
            await self.backups.close()
        else:
            await self.writer.leave(self.backups, at_once=grace == 0.0)
        await asyncio.to_thread(self.spans.close)


def _report(task: asyncio.Task[None]) -> None:
    error = None if task.cancelled() else task.exception()
    if isinstance(error, StartupFailure):
        log.critical(error.detail, extra={"event": "start.refused"})
    elif error is not None:
        log.critical("a loop ended", exc_info=error, extra={"event": "loop.ended", "loop": task.get_name()})
