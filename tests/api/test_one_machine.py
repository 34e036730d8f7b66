"""Front doors of two machines on one Redis and one database: pods run on one of them, and the other waits."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from session_manager.leadership.leadership import State
from tests.api.conftest import CLASSES
from tests.servers.front import FrontDoor, front_door, settings_for
from tests.servers.redis import RedisServer, connected
from tests.waiting import until

WORDS = "another machine runs the pods; this one serves once that one has stopped"


class Machines:
    """Front doors by the name of their machine, on one database. Each may be stopped before the end."""

    def __init__(self, folder: Path, redis_url: str) -> None:
        self.folder = folder
        self._redis_url = redis_url
        self._stacks: list[AsyncExitStack] = []

    async def start(self, machine: str, **overrides: Any) -> tuple[FrontDoor, AsyncExitStack]:
        facts = {"data_dir": self.folder / machine, "session_classes": CLASSES}
        settings = settings_for(self.folder, self._redis_url, **{**facts, **overrides})
        self._stacks.append(AsyncExitStack())
        return await self._stacks[-1].enter_async_context(front_door(settings)), self._stacks[-1]

    async def stop(self) -> None:
        for stack in self._stacks:
            await stack.aclose()


@pytest.fixture
async def machines(tmp_path: Path, redis_url: str) -> AsyncIterator[Machines]:
    made = Machines(tmp_path, redis_url)
    yield made
    await made.stop()


async def assert_passive(front: FrontDoor, session: str) -> None:
    for method, path, body in [
        ("POST", "/session/create", {"user_id": "ada"}),
        ("POST", f"/session/{session}/chat", {"message": "x"}),
        ("POST", f"/session/{session}/wake", None),
        ("GET", f"/session/{session}", None),
        ("GET", "/adk/apps/default/users/ada/sessions", None),
        ("POST", "/adk/apps/default/users/ada/sessions", {}),
    ]:
        async with front.client.request(method, front.url + path, json=body) as response:
            assert response.status == 503, path
            assert int(response.headers["Retry-After"]) >= 1
            assert (await response.json(content_type=None))["detail"] == WORDS
    assert (await front.call("GET", "/livez"))[0] == 200
    assert await front.call("GET", "/readyz") == (503, {"status": "not ready", "detail": WORDS})
    assert (await front.call("GET", "/health"))[1]["machine"] == "waiting"


def texts(page: dict[str, Any]) -> list[tuple[str, str]]:
    return [(each["message"], each["status"]) for each in page["messages"]]


async def test_the_other_machine_waits_and_continues_where_the_first_stopped(machines):
    one, stop_one = await machines.start("one")
    two, _ = await machines.start("two")
    session = await one.create()
    assert (await one.chat(session, "first"))[0] == 200
    assert (await one.call("GET", "/health"))[1]["machine"] == "held"
    await assert_passive(two, session)
    asleep = await one.create()
    assert (await one.chat(asleep, "later", wait=None))[0] == 202
    assert not (machines.folder / "two" / "homes").exists() or not [*(machines.folder / "two" / "homes").iterdir()]
    await stop_one.aclose()
    await until(lambda: two.services.machine.state is State.LEADING)
    status, body = await two.chat(session, "second")
    assert (status, body["pod_response"]["attempt"]) == (200, 1)

    async def answered() -> bool:
        return texts((await two.call("GET", f"/session/{asleep}/messages"))[1]) == [("later", "processed")]

    await until(answered)
    page = (await two.call("GET", f"/session/{session}/messages"))[1]
    assert texts(page) == [("first", "processed"), ("second", "processed")]
    assert (await two.call("GET", "/readyz"))[0] == 200


async def test_front_doors_of_one_data_folder_are_one_machine(machines):
    one, stop_one = await machines.start("one")
    again, _ = await machines.start("one")
    two, _ = await machines.start("two")
    session = await again.create()
    for front in (one, again):
        assert (await front.chat(session, "hello"))[0] == 200
    await stop_one.aclose()
    assert (await again.chat(session, "still"))[0] in (200, 202)
    await assert_passive(two, session)


async def test_a_redis_that_came_back_empty_leaves_the_pods_where_they_are(tmp_path: Path, own_redis: RedisServer):
    machines = Machines(tmp_path, own_redis.url)
    try:
        one, _ = await machines.start("one", redis_timeout=0.5)
        two, _ = await machines.start("two", redis_timeout=0.5)
        session = await one.create()
        assert (await one.chat(session, "before"))[0] == 200
        [pod] = (tmp_path / "one" / "tmp").iterdir()  # one folder per pod
        own_redis.kill()
        own_redis.empty()
        own_redis.start()

        async def answers() -> bool:
            return (await one.chat(session, "after", 20, **{"Idempotency-Key": key}))[0] == 200

        key = str(uuid4())
        await until(answers)
        assert [*(tmp_path / "one" / "tmp").iterdir()] == [pod]
        await until(lambda: connected(two.services.link))
        await two.services.activity.ping()
        await assert_passive(two, session)
    finally:
        await machines.stop()
