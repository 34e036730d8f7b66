"""Session resources follow what was made in SQL, also where the API server is away or many are made at once."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from session_manager.domain.access import Access
from session_manager.domain.errors import NotFound, Unavailable
from session_manager.domain.session import Session
from session_manager.domain.times import Micros
from session_manager.runtime.kubernetes.cluster import Resource
from session_manager.runtime.kubernetes.sessions import MADE_AT_ONCE, KubernetesSessions
from tests.waiting import until

Json = dict[str, Any]


def session(uuid: str) -> Session:
    zero = Micros(0)
    return Session(uuid, "ann", "default", uuid, "default", None, zero, zero, zero, None, None, None)


class Api:
    """A cluster that holds Sessions, or is away. ``busiest``: creates that waited at the same time."""

    def __init__(self) -> None:
        self.held: list[str] = []
        self.away = False
        self.waiting = self.busiest = 0

    async def start(self) -> None: ...
    async def close(self) -> None: ...

    async def create(self, resource: Resource, body: Json, manager: str) -> Json:
        self.waiting += 1
        self.busiest = max(self.busiest, self.waiting)
        await asyncio.sleep(0)
        self.waiting -= 1
        if self.away:
            raise Unavailable
        self.held.append(body["metadata"]["name"])
        return {"metadata": {"uid": "uid"}}


class Watched:
    """What the watch has told: nothing, which is late but not wrong."""

    def __init__(self) -> None:
        self.objects: dict[str, Json] = {}
        self.healthy, self.lacks, self.synced = True, None, True

    def listen(self, _: object) -> None: ...
    def start(self) -> None: ...
    async def close(self) -> None: ...


class Records:
    def __init__(self) -> None:
        self.deleted: set[str] = set()
        self.away = False
        self.asked = 0

    async def get_session(self, uuid: str, access: Access) -> Session:
        self.asked += 1
        if self.away:
            raise Unavailable
        if uuid in self.deleted:
            raise NotFound
        return session(uuid)


class Host:
    def __init__(self) -> None:
        self.api, self.records = Api(), Records()

        async def nothing(*_: object) -> list[str]:
            return []

        parts: Any = (self.api, Watched(), self.records, "install", 0.001, nothing, nothing, nothing)
        self.sessions = KubernetesSessions(*parts)


@pytest.fixture
async def host() -> AsyncIterator[Host]:
    host = Host()
    running = asyncio.create_task(host.sessions.run())
    yield host
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    await host.sessions.close()


async def test_many_that_are_made_at_once_wait_for_each_other(host: Host):
    names = [f"s{n}" for n in range(10 * MADE_AT_ONCE)]
    for name in names:
        host.sessions.created(session(name))
    await until(lambda: len(host.api.held) == len(names))
    assert host.api.busiest == MADE_AT_ONCE


async def test_what_could_not_be_made_is_made_when_the_api_answers_again(host: Host):
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
