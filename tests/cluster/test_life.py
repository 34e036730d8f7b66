"""The life of a session in a cluster: created, woken, asleep, woken again, deleted."""

from __future__ import annotations

import asyncio
import json
import urllib.request
from typing import Any
from uuid import uuid4

from session_manager.domain.session_class import SessionClass
from session_manager.runtime.kubernetes.cluster import DEPLOYMENTS, SERVICES, SESSIONS
from session_manager.runtime.protocol import Address
from tests.cluster.conftest import World
from tests.waiting import until

CLASS = SessionClass("default", idle_timeout=60)


async def awake(world: World, session: str) -> Address:
    """Wake it and wait until its address is published."""
    await world.activity.wake(session, CLASS)

    async def published() -> Address | None:
        desire = await world.activity.desire(session)
        found = await world.activity.hot(session)
        if found.failure is not None:
            raise AssertionError(found.failure)
        return await address(world, session) if desire.published else None

    return await until(published, 60)


async def address(world: World, session: str) -> Address:
    ip, port, uid = await world.activity._link.execute("HMGET", f"session:{session}", "ip", "port", "pod")
    return Address(ip.decode(), int(port), uid.decode())


async def chat(address: Address, session: str, message: str) -> dict[str, Any]:
    body = {"message": message, "message_id": str(uuid4()), "session_id": session, "user_id": "ann"}
    headers = {"Content-Type": "application/json", "X-Session-Id": session, "X-Attempt": "1"}
    request = urllib.request.Request(
        f"http://{address.ip}:{address.port}/chat", json.dumps(body).encode(), headers, method="POST"
    )

    def ask() -> dict[str, Any]:
        with urllib.request.urlopen(request, timeout=10) as response:
            return json.load(response)

    return await asyncio.to_thread(ask)


async def asleep(world: World, session: str) -> None:
    assert await world.activity.fence(session, CLASS, force=True) == "PASSED"

    async def none_left() -> bool:
        return not await world.pods(session)

    await until(none_left, 30)


async def test_a_session_is_made_woken_put_to_sleep_woken_again_and_deleted(world: World):
    await world.make_class()
    session = await world.make_session()

    async def children() -> bool:
        found = [await world.child(resource, session) for resource in (DEPLOYMENTS, SERVICES)]
        return all(found)

    await until(children, 30)
    deployment = await world.child(DEPLOYMENTS, session)
    assert deployment is not None
    assert (deployment["spec"]["replicas"], await world.pods(session)) == (0, [])
    assert (await world.status(session)).get("phase") in {None, "Created"}

    first = await awake(world, session)
    assert await chat(first, session, "hello") == {"reply": "You said: hello"}

    async def told_awake() -> bool:
        return (await world.status(session)).get("phase") == "Awake"

    await until(told_awake, 10)
    await asleep(world, session)

    async def told_asleep() -> bool:
        return (await world.status(session)).get("phase") == "Sleeping"

    await until(told_asleep, 10)
    second = await awake(world, session)
    assert second.uid != first.uid

    found = await world.find(SESSIONS, session)
    assert found is not None
    await world.cluster.delete(SESSIONS, session, uid=found["metadata"]["uid"])

    async def nothing_left() -> bool:
        left = [await world.child(resource, session) for resource in (DEPLOYMENTS, SERVICES)]
        return not any(left) and not await world.pods(session)

    await until(nothing_left, 60)
    assert not (await world.activity.desire(session)).published
