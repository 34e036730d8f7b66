"""Session resources follow SQL, even if the API server is unavailable or many are created at once."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest

from session_manager.domain.access import Access
from session_manager.domain.errors import NotFound, Unavailable
from session_manager.domain.session import Session
from session_manager.domain.times import Micros
from session_manager.runtime.kubernetes.cluster import Resource
from session_manager.runtime.kubernetes.resources import SessionView, session_view
from session_manager.settings import Settings
from session_manager.wiring.hosts.kubernetes import CREATED_AT_ONCE, SessionResources
from tests.waiting import until

Json = dict[str, Any]


def session(uuid: str) -> Session:
    zero = Micros(0)
    return Session(uuid, "ann", "default", uuid, "default", None, zero, zero, zero, None, None, None)


class Api:
    """A cluster that holds Sessions, or is unavailable. ``busiest``: the most creates at the same time."""

    def __init__(self) -> None:
        self.held: list[str] = []
        self.deleted: list[str] = []
        self.away = False
        self.failure: Exception | None = None
        self.waiting = self.busiest = 0

    async def create(self, resource: Resource, body: Json, manager: str) -> Json:
        self.waiting += 1
        self.busiest = max(self.busiest, self.waiting)
        await asyncio.sleep(0)
        self.waiting -= 1
        if self.away:
            raise Unavailable
        if self.failure is not None:
            raise self.failure
        self.held.append(body["metadata"]["name"])
        return {"metadata": {"uid": "uid"}}

    async def delete(self, resource: Resource, name: str, *, uid: str, version: str | None = None) -> None:
        self.deleted.append(name)


class Watched:
    """Sessions that the watch has reported: ``objects``."""

    def __init__(self) -> None:
        self.objects: dict[str, SessionView] = {}
        self.healthy = True
        self.synced = asyncio.Event()
        self.synced.set()

    classes = None

    def listen(self, _: object) -> None: ...

    @property
    def sessions(self) -> Watched:
        return self


class Activity:
    """Publishes to one listener."""

    def __init__(self) -> None:
        self.ended_sessions: list[str] = []
        self.publish: Callable[[str], None] | None = None

    async def on_scale(self, listener: Callable[[str], None]) -> None:
        self.publish = listener

    async def awake(self) -> list[str]:
        return []

    async def ended(self, session: str) -> None:
        self.ended_sessions.append(session)


class Records:
    def __init__(self) -> None:
        self.deleted: set[str] = set()
        self.away = False
        self.failure: Exception | None = None
        self.asked = 0

    async def get_session(self, uuid: str, access: Access) -> Session:
        self.asked += 1
        if self.failure is not None:
            raise self.failure
        if self.away:
            raise Unavailable
        if uuid in self.deleted:
            raise NotFound
        return session(uuid)


class Host:
    def __init__(self, interval: float = 0.001) -> None:
        self.api, self.watched, self.records, self.activity = Api(), Watched(), Records(), Activity()
        settings = Settings.from_environment(install_id="install", repair_interval=interval)
        parts: Any = (self.api, self.watched, self.records, self.activity, settings)
        self.sessions = SessionResources(*parts)


@asynccontextmanager
async def running(host: Host) -> AsyncIterator[Host]:
    task = asyncio.create_task(host.sessions.run())
    yield host
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    await host.sessions.close()


@pytest.fixture
async def host() -> AsyncIterator[Host]:
    async with running(Host()) as host:
        yield host


async def test_many_creates_at_once_wait_for_each_other(host: Host):
    names = [f"s{n}" for n in range(10 * CREATED_AT_ONCE)]
    for name in names:
        host.sessions.created(session(name))
    await until(lambda: len(host.api.held) == len(names))
    assert host.api.busiest == CREATED_AT_ONCE


async def test_a_failed_create_is_repeated_when_the_api_answers_again(host: Host):
    host.api.away = True
    for name in ("a", "b", "c"):
        host.sessions.created(session(name))
    await until(lambda: host.api.busiest == 3)
    host.records.deleted.add("b")
    host.records.away = True
    host.api.away = False
    await until(lambda: host.records.asked > 10)
    assert host.api.held == []
    host.records.away = False
    await until(lambda: sorted(host.api.held) == ["a", "c"])


def view(uuid: str) -> SessionView:
    metadata = {"name": uuid, "uid": "uid", "resourceVersion": "7", "labels": {"sessionmanager.dev/install": "install"}}
    return session_view({"metadata": metadata, "spec": {"owner": "ann", "classRef": {"name": "default"}}})


async def test_a_publication_for_a_session_with_a_resource_costs_no_read():
    async with running(Host(interval=3600.0)) as host:
        host.watched.objects["there"] = view("there")
        publish = await until(lambda: host.activity.publish)
        for _ in range(5):
            publish("there")
        publish("missing")
        await until(lambda: host.api.held == ["missing"])
        assert host.records.asked == 2  # for the missing one: its record, and that it is still there after the create


async def test_an_expired_session_is_forgotten_and_then_its_resource_is_deleted(host: Host):
    host.watched.objects["old"] = view("old")
    host.sessions.expired("old")
    host.sessions.expired("unknown")
    await until(lambda: host.api.deleted == ["old"])
    assert host.activity.ended_sessions == ["old"]


async def test_an_unexpected_failure_is_logged_and_ends_nothing(host: Host, caplog: pytest.LogCaptureFixture):
    host.api.failure = KeyError("metadata")
    host.sessions.created(session("a"))
    await until(lambda: "resource.failed" in [record.__dict__.get("event") for record in caplog.records])
    host.api.failure = None
    host.watched.objects["b"] = view("b")
    host.records.failure = KeyError("b")
    await until(lambda: "resources.failed" in [record.__dict__.get("event") for record in caplog.records])
    host.records.failure = None
    host.sessions.created(session("c"))
    await until(lambda: host.api.held == ["c"])
