"""The contract of the hot facts: inbox, lease, fence, addresses, generations."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Any
from uuid import uuid4

import pytest

from session_manager.activity.link import Link
from session_manager.activity.protocol import LAGGED, Claim, Gap, NoClaim, Queued, SessionGone
from session_manager.activity.redis import RedisActivity, WaitingNotes
from session_manager.activity.redis_turns import Leases
from session_manager.domain.errors import ActivityUnavailable
from session_manager.domain.session import Failure
from session_manager.domain.session_class import SessionClass
from session_manager.domain.times import Micros
from session_manager.people.room import Room, Share
from session_manager.runtime.protocol import PodAddress
from session_manager.settings.capacity import CapacitySettings

CLASS = SessionClass(name="default", idle_timeout=60, ttl=3600)
POD = PodAddress("127.0.0.1", 4000, "pod-a")
OTHER_POD = PodAddress("127.0.0.1", 4001, "pod-b")

Make = Callable[..., Coroutine[Any, Any, RedisActivity]]


@pytest.fixture
async def make(redis_url: str) -> AsyncIterator[Make]:
    """Start the activity of another process on the same Redis. ``unfinished``: the answer of its SQL."""
    made: list[RedisActivity] = []

    async def start(*, unfinished: bool = False, lease: float = 15.0) -> RedisActivity:
        async def has_unfinished() -> bool:
            return unfinished

        activity = RedisActivity(Link.from_url(redis_url), lease=lease, heartbeat=5, has_unfinished=has_unfinished)
        await activity.start()
        made.append(activity)
        return activity

    yield start
    for activity in made:
        await activity.close()


@pytest.fixture
async def activity(make) -> RedisActivity:
    return await make()


@pytest.fixture
def session() -> str:
    return str(uuid4())


async def awake(activity: RedisActivity, session: str, pod: PodAddress = POD) -> None:
    await activity.wake(session, CLASS)
    await activity.beat()
    assert await activity.publish(session, pod, CLASS, old=False)
    while await activity.next_ready():
        pass


async def claimed(activity: RedisActivity, session: str, mid: str = "m1", seq: int = 1) -> Claim:
    taken = await activity.take(session, mid, seq, seq, CLASS)
    assert isinstance(taken, Claim)
    return taken


class TestTake:
    async def test_asleep_is_queued_first_and_wakes(self, activity, session):
        woken: asyncio.Queue[str] = asyncio.Queue()
        await activity.on_scale(woken.put_nowait)
        assert await activity.take(session, "m1", 1, 1, CLASS) == Queued(position=1, awake=False)
        desire = await activity.desire(session)
        assert desire.wanted
        assert desire.class_name == "default"
        async with asyncio.timeout(5):
            assert await woken.get() == session

    async def test_awake_and_free_is_claimed_fresh(self, activity, session):
        await awake(activity, session)
        claim = await claimed(activity, session)
        assert (claim.fresh, claim.replace, claim.address) == (True, False, POD)
        assert activity.holds(claim)

    async def test_positions_behind_a_running_turn(self, activity, session):
        await awake(activity, session)
        await claimed(activity, session)
        assert await activity.take(session, "m2", 2, 1, CLASS) == Queued(position=1, awake=True)
        assert await activity.take(session, "m3", 3, 1, CLASS) == Queued(position=2, awake=True)

    async def test_a_missing_earlier_message_is_a_gap_and_adds_nothing(self, activity, session):
        await awake(activity, session)
        assert isinstance(await activity.take(session, "m2", 2, 1, CLASS), Gap)
        assert await activity.inbox(session) == []

    async def test_a_second_run_of_the_script_is_a_redelivery_without_replacing(self, activity, session):
        await awake(activity, session)
        first = await claimed(activity, session)
        await activity.abandon(first, CLASS, replace_pod=False)
        again = await activity.take(session, "m1", 1, 1, CLASS)
        assert isinstance(again, Claim)
        assert not again.fresh
        assert again.replace

    async def test_without_a_heartbeat_no_address_counts(self, activity, link, session):
        await awake(activity, session)
        await link.execute("DEL", "heartbeat")
        assert await activity.take(session, "m1", 1, 1, CLASS) == Queued(position=1, awake=True)
        assert await activity.claim(session, CLASS) == NoClaim.ASLEEP

    async def test_deleted_refuses(self, activity, session):
        await activity.delete(session)
        with pytest.raises(SessionGone):
            await activity.take(session, "m1", 1, 1, CLASS)


class TestTurn:
    async def test_finish_releases_and_counts_what_waits(self, activity, session):
        await awake(activity, session)
        claim = await claimed(activity, session)
        await activity.take(session, "m2", 2, 1, CLASS)
        assert await activity.finish(claim, CLASS, None) == 1
        following = await activity.claim(session, CLASS)
        assert isinstance(following, Claim)
        assert (following.message_id, following.fresh) == ("m2", True)
        assert await activity.finish(following, CLASS, None) == 0
        assert await activity.claim(session, CLASS) == NoClaim.EMPTY

    async def test_a_turn_that_is_being_finished_renews_its_lease_no_more(self, activity, session):
        await awake(activity, session)
        claim = await claimed(activity, session)
        finishing = asyncio.create_task(activity.finish(claim, CLASS, None))
        await asyncio.sleep(0)
        assert not finishing.done()
        assert not activity.holds(claim)
        await finishing

    async def test_finish_twice_is_harmless(self, activity, session):
        await awake(activity, session)
        claim = await claimed(activity, session)
        await activity.finish(claim, CLASS, None)
        other = await claimed(activity, session, "m2", 2)
        assert await activity.finish(claim, CLASS, None) == 1
        assert (await activity.hot(session)).running == "m2"
        await activity.finish(other, CLASS, None)

    async def test_a_held_turn_is_busy(self, activity, make, session):
        await awake(activity, session)
        await claimed(activity, session)
        assert await (await make()).claim(session, CLASS) == NoClaim.BUSY

    async def test_a_lost_lease_is_redelivered_on_another_pod(self, activity, link, make, session):
        await awake(activity, session)
        await claimed(activity, session)
        await link.execute("DEL", f"session:{session}:turn")
        again = await (await make()).claim(session, CLASS)
        assert isinstance(again, Claim)
        assert (again.fresh, again.replace) == (False, True)

    async def test_abandon_replaces_the_pod_once(self, activity, session):
        await awake(activity, session)
        await activity.abandon(await claimed(activity, session), CLASS, replace_pod=True)
        desire = await activity.desire(session)
        assert (desire.retire, desire.pod, desire.wanted) == (POD.uid, "", True)
        assert await activity.claim(session, CLASS) == NoClaim.ASLEEP
        assert not await activity.publish(session, POD, CLASS, old=False)
        assert await activity.publish(session, OTHER_POD, CLASS, old=False)
        again = await activity.claim(session, CLASS)
        assert isinstance(again, Claim)
        assert (again.fresh, again.replace, again.address) == (False, False, OTHER_POD)

    async def test_a_spoiled_pod_goes_with_the_result(self, activity, session):
        await awake(activity, session)
        await activity.finish(await claimed(activity, session), CLASS, None, pod_spoiled=True)
        desire = await activity.desire(session)
        assert (desire.retire, desire.wanted) == (POD.uid, False)

    async def test_remove_while_it_runs_retires_the_pod(self, activity, session):
        await awake(activity, session)
        await claimed(activity, session)
        assert await activity.remove(session, "m1", CLASS)
        assert (await activity.desire(session)).retire == POD.uid

    async def test_remove_while_it_waits(self, activity, session):
        await activity.take(session, "m1", 1, 1, CLASS)
        assert not await activity.remove(session, "m1", CLASS)
        assert await activity.inbox(session) == []


class TestFence:
    async def test_passes_only_after_the_deadline(self, activity, session):
        await awake(activity, session)
        assert await activity.fence(session, CLASS) == "EARLY"
        assert await activity.fence(session, CLASS, force=True) == "PASSED"
        desire = await activity.desire(session)
        assert (desire.wanted, desire.retire) == (False, POD.uid)
        assert await activity.fence(session, CLASS, force=True) == "ASLEEP"

    async def test_a_suspended_one_finishes_its_turn_and_what_waits_goes_on_waiting(self, activity, session):
        await awake(activity, session)
        claim = await claimed(activity, session)
        await activity.take(session, "m2", 2, 1, CLASS)
        assert await activity.fence(session, CLASS, suspend=True) == "BUSY"
        await activity.finish(claim, CLASS, None)
        assert await activity.fence(session, CLASS, force=True) == "BUSY"
        assert await activity.fence(session, CLASS, suspend=True) == "PASSED"
        assert session not in await activity.awake()
        assert await activity.inbox(session) == ["m2"]

    async def test_never_while_a_message_waits_or_runs(self, activity, session):
        await awake(activity, session)
        claim = await claimed(activity, session)
        assert await activity.fence(session, CLASS, force=True) == "BUSY"
        await activity.abandon(claim, CLASS, replace_pod=False)
        assert await activity.fence(session, CLASS, force=True) == "BUSY"
        assert await activity.next_ready() == session

    async def test_who_asks_a_pod_hears_that_it_is_gone(self, activity, session):
        gone: asyncio.Queue[str] = asyncio.Queue()
        await activity.on_gone(gone.put_nowait)
        await awake(activity, session)
        await activity.lost(session, "")
        await activity.lost(session, POD.uid)
        assert await gone.get() == POD.uid
        assert gone.empty()

    async def test_a_push_from_elsewhere_is_activity(self, activity, link, session):
        await awake(activity, session)
        await link.execute("RPUSH", f"session:{session}:awake", "x")
        assert await activity.fence(session, CLASS, force=True) == "BUSY"
        assert await activity.fence(session, CLASS, force=True) == "PASSED"

    async def test_sleep_when_idle_skips_the_deadline(self, activity, session):
        await awake(activity, session)
        claim = await claimed(activity, session)
        await activity.sleep_when_idle(session)
        await activity.finish(claim, CLASS, None)
        assert (await activity.desire(session)).due
        assert await activity.fence(session, CLASS) == "PASSED"

    async def test_a_pod_that_became_ready_too_late_is_refused(self, activity, session):
        await activity.wake(session, CLASS)
        assert await activity.fence(session, CLASS, force=True) == "PASSED"
        assert not await activity.publish(session, POD, CLASS, old=False)


class TestFailure:
    async def test_backs_off_but_a_lone_message_tries_again(self, activity, session):
        await activity.wake(session, CLASS)
        await activity.fail(session, Failure("Broken", "fix it", Micros(0), 1), retry_in=100)
        hot = await activity.hot(session)
        assert hot.failure is not None
        assert (hot.failure.reason, hot.wanted) == ("Broken", False)
        assert isinstance(await activity.take(session, "m1", 1, 1, CLASS), Queued)
        assert (await activity.desire(session)).wanted
        await activity.fail(session, Failure("Broken", "fix it", Micros(0), 2), retry_in=100)
        await activity.take(session, "m2", 2, 1, CLASS)
        assert not (await activity.desire(session)).wanted

    async def test_an_explicit_wake_tries_at_once(self, activity, session):
        await activity.fail(session, Failure("Broken", "fix it", Micros(0), 1), retry_in=100)
        await activity.wake(session, CLASS)
        assert (await activity.desire(session)).wanted


class TestGeneration:
    async def test_an_emptied_redis_is_noticed_by_all(self, activity, make, link, session):
        other = await make(unfinished=True)
        await awake(activity, session)
        noticed = []
        other.on_generation(lambda: noticed.append("other"))
        before = activity.generation
        await link.execute("FLUSHALL")
        await activity.hot(session)
        await activity.wake(session, CLASS)
        await other.wake(session, CLASS)
        assert activity.generation == other.generation != before
        assert noticed == ["other"]

    async def test_leases_are_taken_back_before_others_may_claim(self, make, link, session):
        first, second = await make(unfinished=True), await make(unfinished=True)
        await awake(first, session)
        claim = await claimed(first, session)
        await link.execute("FLUSHALL")
        await second.beat()
        await second.publish(session, POD, CLASS, old=True)
        await second.add(session, [("m1", 1)], CLASS)
        assert await second.claim(session, CLASS) == NoClaim.UNSETTLED
        await first.wake(session, CLASS)
        assert await second.claim(session, CLASS) == NoClaim.BUSY
        assert await first.finish(claim, CLASS, None) == 0

    async def test_a_fresh_message_runs_before_the_generation_has_settled(self, make, session):
        activity = await make(unfinished=True)
        await awake(activity, session)
        claim = await claimed(activity, session)
        assert claim.fresh
        assert await activity.fence(session, CLASS, force=True) == "BUSY"
        await activity.finish(claim, CLASS, None)
        assert await activity.fence(session, CLASS, force=True) == "UNSETTLED"

    async def test_who_knows_that_nothing_is_open_ends_the_wait(self, make, session):
        """The operator connects first and has no SQL; the front door that connects next has."""
        first = await make(unfinished=True)
        await awake(first, session)
        assert await first.fence(session, CLASS, force=True) == "UNSETTLED"
        await make(unfinished=True)
        assert await first.fence(session, CLASS, force=True) == "UNSETTLED"
        await make()
        assert await first.fence(session, CLASS, force=True) == "PASSED"

    async def test_a_pod_of_an_earlier_generation_is_replaced_before_a_redelivery(self, activity, link, session):
        await awake(activity, session)
        await link.execute("FLUSHALL")
        await activity.beat()
        assert await activity.publish(session, POD, CLASS, old=True)
        await activity.add(session, [("m1", 1)], CLASS)
        claim = await activity.claim(session, CLASS)
        assert isinstance(claim, Claim)
        assert (claim.fresh, claim.replace) == (False, True)

    async def test_a_redis_of_another_process_founds_anew(self, activity, make, link, session):
        await awake(activity, session)
        await link.execute("HSET", "generation", "run_id", "of-a-redis-that-is-gone")
        await make()
        assert not (await activity.hot(session)).address
        assert isinstance(await activity.take(session, "m1", 1, 1, CLASS), Queued)


class TestEnd:
    async def test_expire_forgets_unless_alive(self, activity, link, session):
        await activity.take(session, "m1", 1, 1, CLASS)
        assert not await activity.expire(session)
        await activity.remove(session, "m1", CLASS)
        await activity.fence(session, CLASS, force=True)
        assert await activity.expire(session)
        assert await link.execute("KEYS", f"session:{session}*") == []

    async def test_delete_leaves_only_the_mark(self, activity, link, session):
        await awake(activity, session)
        await claimed(activity, session)
        await activity.delete(session)
        assert await link.execute("KEYS", f"session:{session}*") == [f"session:{session}".encode()]
        assert (await activity.desire(session)).deleted
        assert session not in await activity.awake()

    async def test_keys_expire_with_the_session_only_while_nothing_is_unfinished(self, activity, link, session):
        await awake(activity, session)
        claim = await claimed(activity, session)
        assert await link.execute("TTL", f"session:{session}") == -1
        await activity.finish(claim, CLASS, None)
        assert CLASS.ttl <= await link.execute("TTL", f"session:{session}") <= CLASS.ttl + 3600


async def test_a_watcher_that_does_not_read_holds_few_bytes_and_few_notes():
    piece = {"kind": "delta", "data": "x"}
    notes = WaitingNotes()
    for _ in range(10):
        notes.offer(1_000_000, piece)
    assert notes.qsize() == 4
    assert notes.get_nowait() is piece
    notes.offer(1_000_000, piece)
    assert notes.qsize() == 4
    small = WaitingNotes()
    for _ in range(2000):
        small.offer(2, {})
    assert small.qsize() == 1000


async def test_a_watcher_that_lags_gets_the_last_word_and_holds_nothing():
    room = Room(CapacitySettings())
    notes = WaitingNotes(Share(room, "ada"))
    for _ in range(4):
        notes.offer(1_000_000, {"kind": "delta"})
    assert room.held == 4_000_000
    notes.get_nowait()
    assert room.held == 3_000_000
    for _ in range(3):
        notes.offer(1_000_000, {"kind": "delta"})
    assert notes.get_nowait() is LAGGED
    assert notes.empty()
    assert room.held == 0


async def test_watchers_of_one_caller_share_its_room():
    room = Room(CapacitySettings())
    room.take("ada", 31 * 2**20)
    notes = WaitingNotes(Share(room, "ada"))
    notes.offer(2 * 2**20, {"kind": "delta"})
    assert notes.get_nowait() is LAGGED


async def test_watchers_of_one_session_share_its_notes(activity, session):
    async with activity.watch(session) as one, activity.watch(session) as two:
        await activity.notify(session, {"kind": "delta", "data": "x"})
        async with asyncio.timeout(5):
            assert await one.get() is await two.get()


async def test_watchers_get_notes(activity, session):
    async with activity.watch(session) as heard:
        await activity.notify(session, {"kind": "delta", "data": "x"})
        async with asyncio.timeout(5):
            assert await heard.get() == {"kind": "delta", "data": "x"}


class TestPieces:
    """``piece`` keeps the pieces of a reply for those who join its turn, in order, while the turn runs."""

    @staticmethod
    def note(chunk: int, mid: str = "m1") -> dict[str, Any]:
        return {"kind": "delta", "message_id": mid, "attempt": 1, "chunk": chunk}

    async def test_they_are_kept_until_the_turn_ends(self, activity, session):
        await awake(activity, session)
        claim = await claimed(activity, session)
        assert await activity.pieces(session) == []
        await activity.piece(claim, self.note(1), 60, begins=True)
        await activity.piece(claim, self.note(2), 60)
        await activity.piece(claim, self.note(3), 0)
        assert await activity.pieces(session) == [self.note(1), self.note(2)]
        await activity.finish(claim, CLASS, None)
        assert await activity.pieces(session) == []

    @pytest.mark.parametrize("end", ["abandon", "delete"])
    async def test_an_end_without_a_result_drops_them(self, activity, link, session, end):
        await awake(activity, session)
        claim = await claimed(activity, session)
        await activity.piece(claim, self.note(1), 60, begins=True)
        if end == "delete":
            await activity.delete(session)
        else:
            await activity.abandon(claim, CLASS, replace_pod=True)
        assert not await link.execute("EXISTS", f"session:{session}:pieces")

    async def test_the_next_attempt_begins_anew_and_an_earlier_holder_adds_nothing(self, make, activity, session):
        await awake(activity, session)
        lost = await claimed(activity, session)
        await activity.piece(lost, self.note(1), 60, begins=True)
        await activity.abandon(lost, CLASS, replace_pod=False)
        claim = await activity.claim(session, CLASS)
        await activity.piece(claim, self.note(7), 60, begins=True)
        async with activity.watch(session) as notes:
            await activity.piece(lost, self.note(2), 60, begins=True)
            assert await notes.get() == self.note(2)
        assert await activity.pieces(session) == [self.note(7)]

    async def test_those_of_another_message_are_not_returned(self, activity, session):
        await awake(activity, session)
        claim = await claimed(activity, session)
        await activity.piece(claim, self.note(1, "m0"), 60, begins=True)
        assert await activity.pieces(session) == []

    async def test_they_expire(self, activity, session):
        await awake(activity, session)
        claim = await claimed(activity, session)
        await activity.piece(claim, self.note(1), 0.001, begins=True)
        async with asyncio.timeout(5):
            while await activity.pieces(session):
                await asyncio.sleep(0.001)


async def test_leases_are_renewed(make, link, session):
    activity = await make(lease=0.3)
    await awake(activity, session)
    claim = await claimed(activity, session)
    key = f"session:{session}:turn"
    async with asyncio.timeout(5):
        before = await link.execute("PTTL", key)
        while await link.execute("PTTL", key) <= before:
            before = await link.execute("PTTL", key)
    assert activity.holds(claim)


class TestGivingALeaseBackWhileItIsRenewed:
    async def test_before_its_turn_in_the_round_it_is_not_renewed(self):
        renewed, released = await self._round(on_renewal=lambda leases: leases.drop("b", "holder"))
        assert (set(renewed), released) == ({"a"}, [])

    async def test_during_its_renewal_it_is_released_once_more(self):
        renewed, released = await self._round(on_renewal=lambda leases: leases.drop("a", "holder"))
        assert (renewed[:2], released) == (["a", "b"], ["a"])

    async def _round(self, on_renewal: Callable[[Leases], None]) -> tuple[list[str], list[str]]:
        """Renew two leases three times. Return which ones were renewed and which ones released."""
        renewed: list[str] = []
        released: list[str] = []

        async def renew(session: str, holder: str) -> bool:
            renewed.append(session)
            on_renewal(leases)
            return True

        async def release(session: str, holder: str) -> None:
            released.append(session)

        leases = Leases(0.003, renew, release)
        leases.hold("a", "holder", 0)
        leases.hold("b", "holder", 0)
        renewing = asyncio.create_task(leases.run())
        async with asyncio.timeout(5):
            while len(renewed) < 3:
                await asyncio.sleep(0.001)
        renewing.cancel()
        return renewed, released


class Allowed:
    """An Allowance that notes what is held."""

    def __init__(self) -> None:
        self.held = 0

    def take(self, size: int) -> bool:
        self.held += size
        return True

    def free(self, size: int) -> None:
        self.held -= size


async def test_a_watch_that_cannot_begin_gives_back_what_it_heard(activity, session, monkeypatch):
    """Notes may come before the subscription is confirmed, since another watcher has the channel already."""
    room = Allowed()

    async def subscribe(channel: str, listener: Any, on_gap: Any = None) -> None:
        listener(b'{"kind":"delta"}')
        assert room.held
        raise ActivityUnavailable

    monkeypatch.setattr(activity._link, "subscribe", subscribe)
    with pytest.raises(ActivityUnavailable):
        async with activity.watch(session, room):
            pass
    assert not room.held
