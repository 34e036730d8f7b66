"""Redis keeps the user of a session and the slot of a start, and knows which idle pod makes room."""

from __future__ import annotations

from collections.abc import AsyncIterator
from uuid import uuid4

import pytest

from session_manager.activity.link import Link
from session_manager.activity.protocol import Claim
from session_manager.activity.redis import RedisActivity
from session_manager.domain.session_class import SessionClass
from session_manager.runtime.protocol import PodAddress

CLASS = SessionClass(name="default", idle_timeout=60, ttl=3600)


@pytest.fixture
async def activity(redis_url: str) -> AsyncIterator[RedisActivity]:
    async def nothing_unfinished() -> bool:
        return False

    activity = RedisActivity(Link.from_url(redis_url), lease=15.0, heartbeat=5.0, has_unfinished=nothing_unfinished)
    await activity.start()
    await activity.beat()
    yield activity
    await activity.close()


@pytest.fixture
def session() -> str:
    return str(uuid4())


async def answers(activity: RedisActivity, session: str) -> None:
    pod = PodAddress("127.0.0.1", 4000, str(uuid4()))
    assert await activity.publish(session, pod, CLASS, old=False)


async def test_whoever_wants_a_pod_leaves_its_user(activity: RedisActivity):
    woken, asked, restored = (str(uuid4()) for _ in range(3))
    await activity.wake(woken, CLASS, user="ada")
    await activity.take(asked, str(uuid4()), 1, 1, CLASS, "eve")
    await activity.add(restored, [(str(uuid4()), 1)], CLASS, "bob")
    users = {woken: "ada", asked: "eve", restored: "bob"}
    assert {each: (await activity.desire(each)).user for each in users} == users
    assert {each: state.user for each, state in (await activity.awake()).items() if each in users} == users


async def test_a_caller_who_does_not_know_the_user_does_not_forget_it(activity: RedisActivity, session: str):
    assert (await activity.desire(session)).user == ""
    await activity.wake(session, CLASS, user="ada")
    await activity.wake(session, CLASS)
    await activity.add(session, (), CLASS)
    assert (await activity.desire(session)).user == "ada"


async def test_keda_sees_a_session_once_it_has_a_slot(activity: RedisActivity, link: Link, session: str):
    await activity.wake(session, CLASS)
    assert not (await activity.desire(session)).pushed
    await activity.admit(session)
    await activity.admit(session)
    assert await link.execute("LLEN", f"session:{session}:awake") == 1
    await answers(activity, session)
    assert await link.execute("LLEN", f"session:{session}:awake") == 1
    assert await activity.make_room(session)
    await activity.admit(session)
    assert not (await activity.desire(session)).pushed, "it is not wanted any more"


async def test_an_idle_pod_makes_room_before_its_deadline(activity: RedisActivity, session: str):
    await activity.wake(session, CLASS)
    await answers(activity, session)
    assert not (await activity.desire(session)).due
    assert await activity.make_room(session)
    assert not (await activity.hot(session)).wanted
    assert not await activity.make_room(session), "it is on its way"


async def test_a_pod_that_works_or_was_asked_for_from_elsewhere_makes_no_room(
    activity: RedisActivity, link: Link, session: str
):
    await activity.wake(session, CLASS)
    await answers(activity, session)
    claim = await activity.take(session, str(uuid4()), 1, 1, CLASS)
    assert isinstance(claim, Claim)
    assert not await activity.make_room(session)
    await activity.finish(claim, CLASS, None)
    await link.execute("RPUSH", f"session:{session}:awake", "x")
    assert not await activity.make_room(session)
    await link.execute("LTRIM", f"session:{session}:awake", 0, 0)
    assert await activity.make_room(session)


async def test_a_pod_that_is_kept_awake_makes_no_room_until_it_is_put_to_sleep(activity: RedisActivity, session: str):
    await activity.wake(session, CLASS, keep_awake=600.0)
    await activity.wake(session, CLASS)
    await answers(activity, session)
    assert not await activity.make_room(session)
    assert await activity.fence(session, CLASS, force=True) == "PASSED"
    await activity.wake(session, CLASS)
    await answers(activity, session)
    assert await activity.make_room(session)
