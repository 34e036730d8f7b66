"""Where pods run, as a front door sees it: one Host for each runtime.

A further runtime needs a module with a ``PodHost`` and a line in ``HOSTS``.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Mapping
from importlib import import_module
from typing import cast

from session_manager.activity.link import Link
from session_manager.activity.redis import RedisActivity
from session_manager.aio.retry import until_available
from session_manager.domain.adk.model import AdkKey, AdkSession
from session_manager.domain.errors import NotFound, PodRejected, StartupFailure
from session_manager.domain.extras import needs_extra
from session_manager.domain.histogram import Histogram
from session_manager.domain.mode import AllAuto
from session_manager.domain.session import Session
from session_manager.domain.session_class import SessionClasses
from session_manager.leadership.leadership import Leadership
from session_manager.podclient.gateway import PodGateway
from session_manager.settings import Settings
from session_manager.settings.kinds import Network
from session_manager.store.protocol import Store
from session_manager.tracing.spans import Spans
from session_manager.wiring.health import Check

HOSTS = {
    "process": "session_manager.wiring.hosts.process",
    "kubernetes": "session_manager.wiring.hosts.kubernetes",
}


class Host(AllAuto, ABC):
    """The pods of a runtime. ``pods``: the client that reaches them.

    ``machine``: set where only one machine can reach the pods. ``wake_times``: how long the pods started here took, or
    None if another process starts them.
    """

    classes: SessionClasses
    machine: Leadership | None = None
    wake_times: Histogram | None = None

    def __init__(
        self,
        settings: Settings,
        link: Link,
        store: Store,
        confirm: Callable[[], Awaitable[None]] | None = None,
        networks: tuple[Network, ...] | None = None,
    ) -> None:
        self.activity = RedisActivity(
            link,
            lease=settings.sessions.lease,
            heartbeat=settings.pods.heartbeat,
            has_unfinished=store.has_unfinished,
            confirm=confirm,
        )

        async def stored_session(key: AdkKey, recent: int | None) -> AdkSession:
            """Read a session for a pod of protocol adk that does not keep it in this database."""
            try:
                return await until_available(lambda: store.adk_get(key, recent))
            except NotFound:
                raise PodRejected("the session is gone") from None

        self.pods = PodGateway(stored_session, networks)

    @property
    def healthy(self) -> bool | None:
        """Return True if the cluster answers, or None if there is no cluster."""
        return None

    @property
    def lacks(self) -> str | None:
        """Return what is missing before requests can be served, or None if nothing is."""
        return None

    def checks(self) -> Mapping[str, Check]:
        """Return what has to work beside Redis and the database, by its name in /health."""
        return {}

    def open(self) -> None:
        """Prepare what needs neither Redis nor the database. Raises StartupFailure if this process cannot run."""

    @abstractmethod
    def class_names(self) -> list[str]:
        """Return the names of the classes that are known now, sorted."""

    @abstractmethod
    async def run(self) -> None:
        """Work for the sessions and their pods until cancelled."""

    @abstractmethod
    async def close(self, grace: float | None = None) -> None: ...

    def created(self, session: Session) -> None:
        """The session was created in SQL. By default it has nothing outside SQL before it is woken."""

    def expired(self, session: str) -> None:
        """The session has expired in SQL. By default its files stay until it is deleted."""

    @abstractmethod
    async def gone(self, session: str) -> bool:
        """Return True if nothing of a deleted session is left. Raises Unavailable if that cannot be known now."""

    @abstractmethod
    async def logs(self, session: str, tail: int) -> str:
        """Return the last ``tail`` lines that the session's pods printed, oldest first, or "" if there are none."""


def open_host(settings: Settings, link: Link, store: Store, spans: Spans) -> Host:
    """Open the host that SESSION_RUNTIME names. Only its own dependencies are imported.

    Raises StartupFailure if one of them is not installed, or if the settings or the file of classes are invalid.
    """
    try:
        module = import_module(HOSTS[settings.pods.runtime])
    except ModuleNotFoundError as error:
        asked = needs_extra(f"SESSION_RUNTIME={settings.pods.runtime}", "operator")
        raise StartupFailure(f"{error.name} is not installed; {asked}") from None
    return cast(Host, module.PodHost(settings, link, store, spans))
