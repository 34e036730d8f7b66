"""The check of a SessionClass before its sessions use it, and its status."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import pytest

from session_manager.domain.errors import Unavailable
from session_manager.domain.session_class import SessionClass
from session_manager.runtime.kubernetes.cluster import ApiBroken, ApiError, ApiInvalid, ApiNotFound, Cluster, Resource
from session_manager.runtime.kubernetes.pods import Pods
from session_manager.runtime.kubernetes.resources import Resources
from session_manager.runtime.kubernetes.session_class import ClassSpec, ClusterClasses
from session_manager.runtime.kubernetes.trouble import Trouble
from session_operator.classes import ACCEPTED, ClassKeeper, Verdict, class_status
from session_operator.warm import WarmPods
from session_operator.work_queue import NotYet

Json = dict[str, Any]
NOW = "2026-01-31T12:00:00Z"
BIG = ClassSpec(SessionClass("big", image="x"), warm=2, uid="c", generation=3)
WORDS = "spec.template.spec.containers[0].resources.requests: must be at most the memory limit"
INVALID = ApiInvalid(422, "Invalid", WORDS)


class Api(Cluster):
    """Refuses dry runs with the first of ``refusals``, and keeps what was written."""

    def __init__(self) -> None:
        super().__init__("people")
        self.refusals: list[Exception] = []
        self.tried: list[str] = []
        self.applied: list[str] = []
        self.statuses: list[Json] = []

    async def try_create(self, resource: Resource, body: Json, manager: str) -> None:
        self.tried.append(body["spec"]["template"]["spec"]["containers"][0]["image"])
        if self.refusals:
            raise self.refusals.pop(0)

    async def apply(self, resource: Resource, body: Json, manager: str) -> Json:
        self.applied.append(body["metadata"]["name"])
        return body

    async def get(self, resource: Resource, name: str, subresource: str = "") -> Json:
        if resource.plural == "deployments":
            raise ApiNotFound(404, "NotFound", name)
        return {}

    async def merge_patch(
        self, resource: Resource, name: str, patch: Json, manager: str, subresource: str = ""
    ) -> Json:
        assert (resource.plural, name, subresource) == ("sessionclasses", "big", "status")
        self.statuses.append(patch["status"])
        return {}


class World:
    def __init__(self) -> None:
        self.api = Api()
        self.classes = ClusterClasses(120, 86_400, None, 1111)
        self.classes.listed.set()
        resources = Resources(self.api, self.classes)
        self.specs = resources.class_watch.objects
        resources.classes.listed.set()
        self.keeper = ClassKeeper(self.api, resources, WarmPods(self.api, Pods(self.api)))
        self.verdicts: list[Trouble | None] = []
        self.keeper.on_verdict.append(lambda _, refusal: self.verdicts.append(refusal))

    async def keep(self, spec: ClassSpec) -> None:
        self.specs["big"] = spec
        await self.keeper.keep("big")

    async def refused(self, spec: ClassSpec) -> float:
        """Return the seconds until the next check."""
        with pytest.raises(NotYet) as found:
            await self.keep(spec)
        return found.value.seconds


@pytest.fixture
def world() -> World:
    return World()


async def test_an_accepted_class_gets_its_pool_and_is_not_checked_again(world: World):
    await world.keep(BIG)
    await world.keep(replace(BIG, generation=4))
    assert (world.api.tried, world.api.applied) == (["x"], ["warm-big"])
    assert (world.keeper.refusal_of("big"), world.verdicts) == (None, [])


async def test_a_class_that_changes_is_checked_again(world: World):
    await world.keep(BIG)
    await world.keep(replace(BIG, base=replace(BIG.base, image="y")))
    assert world.api.tried == ["x", "y"]


async def test_a_refused_class_has_the_words_of_the_server_and_no_pool(world: World):
    world.api.refusals = [INVALID]
    await world.refused(BIG)
    refusal = world.keeper.refusal_of("big")
    assert refusal is not None
    assert refusal.reason == "ClassInvalid"
    assert refusal.remedy.startswith(WORDS)
    assert (world.api.applied, world.verdicts, world.keeper.refused) == ([], [refusal], 1)


async def test_a_refused_class_is_checked_again_with_growing_pauses(world: World, caplog: pytest.LogCaptureFixture):
    world.api.refusals = [INVALID, INVALID, INVALID]
    pauses = []
    for _ in range(3):
        pauses.append(await world.refused(BIG))
        world.keeper.verdicts["big"] = replace(world.keeper.verdicts["big"], due=0.0)
    assert pauses == pytest.approx([5, 10, 20], abs=0.5)
    assert len(world.verdicts) == len(caplog.records) == 1


async def test_before_it_is_due_a_refused_class_is_not_checked(world: World):
    world.api.refusals = [INVALID]
    await world.refused(BIG)
    await world.refused(BIG)
    assert world.api.tried == ["x"]


async def test_a_class_that_was_mended_is_accepted(world: World):
    world.api.refusals = [INVALID]
    await world.refused(BIG)
    await world.keep(replace(BIG, base=replace(BIG.base, image="y")))
    assert world.verdicts[-1] is None
    assert world.api.applied == ["warm-big"]


@pytest.mark.parametrize("failure", [ApiBroken("500: webhook timed out"), Unavailable("away")])
async def test_a_server_that_is_away_says_nothing_about_the_class(world: World, failure: Exception):
    world.api.refusals = [failure]
    with pytest.raises(Unavailable):
        await world.keep(BIG)
    assert world.keeper.refusal_of("big") is None


@pytest.mark.parametrize(
    ("words", "status"),
    [
        ("exceeded quota: small, requested: count/deployments.apps=1", "True"),
        ("admission webhook a.example.com does not support dry run", "Unknown"),
    ],
)
async def test_a_refusal_that_is_not_about_the_class(world: World, words: str, status: str):
    world.api.refusals = [ApiError(403, "Forbidden", words)]
    await world.keep(BIG)
    await world.keeper._write("big")
    [written] = world.api.statuses
    assert written["conditions"][0]["status"] == status


async def test_a_class_that_is_gone_is_forgotten(world: World):
    world.api.refusals = [INVALID]
    await world.refused(BIG)
    del world.specs["big"]
    await world.keeper.keep("big")
    assert (world.keeper.refusal_of("big"), world.keeper.refused) == (None, 0)


async def test_a_pool_that_another_writer_changed_is_written_again(world: World):
    await world.keep(BIG)
    world.keeper.lost_pool("big")
    await world.keep(BIG)
    assert world.api.applied == ["warm-big"] * 2
    assert world.verdicts == []


async def test_a_status_is_written_once(world: World):
    await world.keep(BIG)
    await world.keeper._write("big")
    world.keeper.written_at.clear()
    await world.keeper._write("big")
    assert len(world.api.statuses) == 1
    assert world.api.statuses[0]["warm"] == {"wanted": 2, "ready": 0}


async def test_a_pool_that_fills_does_not_write_its_status_for_each_pod(world: World):
    await world.keep(BIG)
    await world.keeper._write("big")
    with pytest.raises(NotYet):
        await world.keeper._write("big")


@pytest.mark.parametrize(
    ("verdict", "expected"),
    [
        (Verdict(BIG), ("True", *ACCEPTED)),
        (Verdict(BIG, Trouble("ClassInvalid", WORDS)), ("False", "ClassInvalid", WORDS)),
        (Verdict(BIG, checked=False), ("Unknown", "NotChecked", None)),
    ],
)
def test_the_status_of_a_class(verdict: Verdict, expected: Iterable[str | None]):
    status = class_status(verdict, 1, {}, NOW)
    [ready] = status["conditions"]
    found = (ready["status"], ready["reason"], ready["message"])
    assert all(want is None or want == have for want, have in zip(expected, found, strict=True))
    assert (status["observedGeneration"], status["warm"]) == (3, {"wanted": 2, "ready": 1})
