"""The Events that people see, and how they are counted and limited."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Any

import pytest

from session_manager.domain.errors import Unavailable
from session_manager.domain.session_class import SessionClass
from session_manager.runtime.kubernetes.cluster import EVENTS, ApiNotFound, Cluster, Resource
from session_manager.runtime.kubernetes.resources import session_view
from session_manager.runtime.kubernetes.session_class import ClassSpec
from session_manager.runtime.kubernetes.trouble import Trouble
from session_operator import events
from session_operator.events import Happening, Recorder, Subject
from tests.waiting import until

Json = dict[str, Any]

UUID = "8c5f1f4e-3b1a-4a5e-9d38-2f1f0a7e6b11"
VIEW = session_view({"metadata": {"name": UUID, "uid": "s"}, "spec": {"owner": "ann"}})
SESSION = Subject("Session", UUID, "s")
READY = [{"type": "Ready", "status": "False", "reason": "NeverReady", "message": "listen on PORT"}]


@pytest.mark.parametrize(
    ("before", "after", "reason", "warns"),
    [
        ({}, {"phase": "Awake", "podName": "p"}, "Woken", False),
        ({"phase": "Awake", "podName": "p"}, {"phase": "Awake", "podName": "q"}, "Woken", False),
        ({"phase": "Awake", "podName": "p"}, {"phase": "Sleeping"}, "Slept", False),
        ({"phase": "Waking"}, {"phase": "Failed", "conditions": READY}, "WakeFailed", True),
    ],
)
def test_a_new_status_that_is_an_event(before: Json, after: Json, reason: str, warns: bool):
    found = events.of_status(VIEW, before, after)
    assert found is not None
    assert (found.subject, found.reason, found.warns) == (SESSION, reason, warns)
    if warns:
        assert found.message == "NeverReady: listen on PORT"


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ({}, {"phase": "Created"}),
        ({"phase": "Created"}, {"phase": "Waking"}),
        ({"phase": "Failed"}, {"phase": "Sleeping"}),
        ({"phase": "Failed"}, {"phase": "Failed", "conditions": READY}),
        ({"phase": "Awake", "podName": "p"}, {"phase": "Awake", "podName": "p"}),
    ],
)
def test_a_new_status_that_is_none(before: Json, after: Json):
    assert events.of_status(VIEW, before, after) is None


def test_the_other_events():
    refused = ClassSpec(SessionClass("big", image="x"), uid="c")
    assert events.of_exit(VIEW, "OOMKilled") == Happening(
        SESSION, "PodDied", "The pod ended by itself: OOMKilled.", True
    )
    assert events.of_expiry(VIEW).reason == "Expired"
    found = events.of_refusal(refused, Trouble("ClassInvalid", "too big"))
    assert found == Happening(Subject("SessionClass", "big", "c"), "ClassInvalid", "ClassInvalid: too big", True)


class Api(Cluster):
    """Keeps Events by name. ``failures`` are raised first."""

    def __init__(self) -> None:
        super().__init__("people")
        self.events: dict[str, Json] = {}
        self.failures: list[Exception] = []
        self.writes = 0

    async def create(self, resource: Resource, body: Json, manager: str) -> Json:
        self._write(resource)
        self.events[body["metadata"]["name"]] = body
        return body

    async def merge_patch(
        self, resource: Resource, name: str, patch: Json, manager: str, subresource: str = ""
    ) -> Json:
        self._write(resource)
        if name not in self.events:
            raise ApiNotFound(404, "NotFound", name)
        self.events[name] |= patch
        return self.events[name]

    def _write(self, resource: Resource) -> None:
        assert resource is EVENTS
        self.writes += 1
        if self.failures:
            raise self.failures.pop()


WOKEN = Happening(SESSION, "Woken", "A pod answers for the session.")


@pytest.fixture
def api() -> Api:
    return Api()


@pytest.fixture
def counted() -> list[str]:
    return []


@pytest.fixture
def recorder(api: Api, counted: list[str], monkeypatch: pytest.MonkeyPatch) -> Recorder:
    monkeypatch.setattr(events, "PAUSE", 0)
    return Recorder(api, counted.append)


async def written(recorder: Recorder, happenings: Iterable[Happening], counted: list[str]) -> None:
    """Record them and wait until each was written or dropped."""
    before = len(counted)
    task = asyncio.create_task(recorder.run())
    for happening in happenings:
        recorder.record(happening)
    await until(lambda: not recorder.waiting and len(counted) > before)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def test_an_event_as_kubectl_describe_shows_it(recorder: Recorder, api: Api, counted: list[str]):
    await written(recorder, [WOKEN], counted)
    [event] = api.events.values()
    assert event["involvedObject"] == {
        "apiVersion": "sessionmanager.dev/v1alpha1",
        "kind": "Session",
        "name": UUID,
        "namespace": "people",
        "uid": "s",
    }
    assert (event["type"], event["reason"], event["count"]) == ("Normal", "Woken", 1)
    assert counted == ["Woken"]


async def test_the_same_again_raises_the_count(recorder: Recorder, api: Api, counted: list[str]):
    await written(recorder, [WOKEN], counted)
    await written(recorder, [WOKEN, WOKEN], counted)
    [event] = api.events.values()
    assert (event["count"], api.writes) == (3, 2)


async def test_an_event_that_has_expired_is_created_again(recorder: Recorder, api: Api, counted: list[str]):
    await written(recorder, [WOKEN], counted)
    api.events.clear()
    await written(recorder, [WOKEN], counted)
    [event] = api.events.values()
    assert event["count"] == 2


async def test_a_failure_drops_the_event_and_no_other(
    recorder: Recorder, api: Api, counted: list[str], caplog: pytest.LogCaptureFixture
):
    api.failures = [Unavailable("away"), Unavailable("away")]
    slept = Happening(SESSION, "Slept", "")
    await written(recorder, [WOKEN, slept, Happening(SESSION, "Expired", "")], counted)
    assert [event["reason"] for event in api.events.values()] == ["Expired"]
    assert counted == ["", "", "Expired"]
    assert len(caplog.records) == 1


def test_more_than_can_be_written_are_dropped(recorder: Recorder, counted: list[str]):
    for number in range(events.WAITING + 3):
        recorder.record(Happening(Subject("Session", str(number), "s"), "Woken", ""))
    assert (len(recorder.waiting), counted) == (events.WAITING, ["", "", ""])


def test_a_long_message_is_cut():
    body = events.event(Happening(SESSION, "WakeFailed", "x" * 5000), "people", 1, "2026-01-31T12:00:00Z")
    assert len(body["message"]) == events.MAX_MESSAGE
