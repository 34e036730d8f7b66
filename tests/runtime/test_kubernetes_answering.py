"""Pods whose program was restarted, and failures of background tasks."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from session_manager.domain.errors import Unavailable
from session_manager.runtime.kubernetes.answering import Answering
from session_manager.runtime.kubernetes.pods import PodView
from session_manager.runtime.kubernetes.steps import RUNNING
from tests.waiting import until

SESSION = "8c5f1f4e-3b1a-4a5e-9d38-2f1f0a7e6b11"
POD = PodView(
    name="pod",
    uid="uid",
    version="1",
    created="now",
    session=SESSION,
    warm="",
    ip="127.0.0.1",
    port=1,
    path="/health",
    spec_hash="",
    ready=True,
    leaving=False,
    claimed=False,
    ended="",
    last_words="",
    gate=None,
    step=RUNNING,
    trouble=None,
)


class World:
    """Pods and workloads in one. ``failures`` are raised before a pod is ended."""

    def __init__(self) -> None:
        self.ended: list[str] = []
        self.failures: list[Exception] = []
        world: Any = self
        self.answering = Answering(world, world)

    def listen(self, listener: Any) -> None:
        self.report = listener

    async def end(self, pod: PodView) -> None:
        if self.failures:
            raise self.failures.pop(0)
        self.ended.append(pod.uid)


@pytest.fixture
def world() -> World:
    return World()


async def test_a_restarted_pod_is_ended_as_soon_as_the_api_answers(world: World):
    world.failures = [Unavailable("away"), Unavailable("away")]
    world.report(POD, True)
    assert world.answering.of_session(SESSION) == POD
    world.report(replace(POD, ended="restarted"), True)
    assert world.answering.of_session(SESSION) is None
    await until(lambda: world.ended == ["uid"])
    await world.answering.background.close()


async def test_a_pod_that_could_not_be_ended_is_logged(world: World, caplog: pytest.LogCaptureFixture):
    world.failures = [KeyError("metadata")]
    world.report(POD, True)
    world.report(replace(POD, ended="restarted"), True)
    await until(lambda: caplog.records)
    [record] = caplog.records
    assert (record.__dict__["event"], record.__dict__["task"]) == ("task.failed", "end pod")
    assert record.exc_info is not None
    await world.answering.background.close()
