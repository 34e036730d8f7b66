"""The port to a runtime as a front door uses it, and the parts that all runtimes share."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Protocol

from session_manager.activity.link import Link
from session_manager.activity.redis import RedisActivity
from session_manager.aio.retry import until_available
from session_manager.domain.adk.model import AdkKey, AdkSession
from session_manager.domain.errors import NotFound, PodRejected
from session_manager.domain.histogram import Histogram
from session_manager.domain.mode import Modes
from session_manager.domain.session import Session
from session_manager.domain.session_class import SessionClasses
from session_manager.leadership.leadership import Leadership
from session_manager.podclient.adk import StoredSessions
from session_manager.podclient.protocol import PodClient
from session_manager.settings import Settings
from session_manager.store.protocol import Store


class Host(Modes, Protocol):
    """``pods``: the client that reaches them. ``machine``: set where only one machine can reach the pods."""

    @property
    def activity(self) -> RedisActivity: ...

    @property
    def classes(self) -> SessionClasses: ...

    @property
    def machine(self) -> Leadership | None: ...

    @property
    def pods(self) -> PodClient: ...

    @property
    def healthy(self) -> bool | None:
        """Return True if the cluster answers, or None if there is no cluster."""
        ...

    @property
    def lacks(self) -> str | None:
        """Return what is missing before requests can be served, or None if nothing is."""
        ...

    @property
    def wake_times(self) -> Histogram | None:
        """Return how long the pods started here took, or None if another process starts them."""
        ...

    def class_names(self) -> list[str]:
        """Return the names of the classes that are known now, sorted."""
        ...

    async def run(self) -> None:
        """Work for the sessions and their pods until cancelled."""
        ...

    async def close(self, grace: float | None = None) -> None: ...

    def created(self, session: Session) -> None:
        """The session was created in SQL."""
        ...

    def expired(self, session: str) -> None:
        """The session has expired in SQL."""
        ...

    async def gone(self, session: str) -> bool:
        """Return True if nothing of a deleted session is left. Raises Unavailable if that cannot be known now."""
        ...

    async def logs(self, session: str, tail: int) -> str:
        """Return the last ``tail`` lines that the session's pods printed, oldest first, or "" if there are none."""
        ...


def open_activity(
    settings: Settings, link: Link, store: Store, confirm: Callable[[], Awaitable[None]] | None = None
) -> RedisActivity:
    return RedisActivity(
        link,
        lease=settings.sessions.lease,
        heartbeat=settings.pods.heartbeat,
        has_unfinished=store.has_unfinished,
        confirm=confirm,
    )


def stored_sessions(store: Store) -> StoredSessions:
    """Return how a pod of protocol adk reads a session that it does not keep in this database."""

    async def read(key: AdkKey, recent: int | None) -> AdkSession:
        try:
            return await until_available(lambda: store.adk_get(key, recent))
        except NotFound:
            raise PodRejected("the session is gone") from None

    return read
