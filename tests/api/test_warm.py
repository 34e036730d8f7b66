"""A class with warm pods, over HTTP: a wake starts no process."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.servers.front import FrontDoor
from tests.waiting import until

AGENT = Path(__file__).parents[1] / "servers" / "agents" / "agent.py"
WARM = 2


@pytest.fixture
async def front(start, tmp_path: Path) -> FrontDoor:
    classes = tmp_path / "classes.yaml"
    classes.write_text(f"classes: [{{name: default, command: [{sys.executable}, -P, {AGENT}], warm: {WARM}}}]", "utf-8")
    return await start(session_classes=classes)


def agents() -> set[int]:
    processes = psutil.Process().children(recursive=True)
    return {process.pid for process in processes if str(AGENT) in process.cmdline()}


async def full(front: FrontDoor) -> set[int]:
    """Return the warm processes, once there are enough of them."""
    host: Any = front.services.host
    pool = await until(lambda: host._runtime._warm._pools.get("default"))
    await until(lambda: len(pool._ready) == WARM)
    return agents()


async def pid_of(front: FrontDoor, session: str) -> int:
    status, body = await front.chat(session, "environment")
    assert (status, body["status"]) == (200, "processed")
    environment = body["pod_response"]["environment"]
    assert "SESSION_ID" not in environment
    [pid] = [pid for pid in agents() if psutil.Process(pid).environ()["PORT"] == environment["PORT"]]
    return pid


async def test_a_wake_takes_a_warm_process(front):
    before = await full(front)
    session = await front.create()
    assert await front.status(session) == "created"
    first = await pid_of(front, session)
    assert first in before
    assert await front.status(session) == "awake"
    before = await full(front) - {first}
    status, body = await front.call("POST", f"/session/{session}/sleep")
    assert (status, body["status"]) == (200, "sleeping")
    second = await pid_of(front, session)
    assert second in before
    assert first not in agents()
    assert (await front.call("DELETE", f"/session/{session}"))[0] == 200
    await until(lambda: second not in agents())


async def test_sessions_never_share_a_process(front):
    await full(front)
    sessions = [await front.create() for _ in range(2 * WARM)]
    assert len({await pid_of(front, session) for session in sessions}) == 2 * WARM


async def test_a_pod_that_dies_at_work_is_replaced_for_its_session(front):
    await full(front)
    session = await front.create()
    first = await pid_of(front, session)
    os.kill(first, 9)
    assert await pid_of(front, session) != first
