"""Histories that failed once, or that are known to be dangerous, step by step."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from tests.sim.actions import (
    Action,
    Births,
    Cancel,
    Delete,
    FlushRedis,
    Moods,
    RestartRedis,
    RestartScaler,
    Send,
    SetTrap,
    Sleep,
    Wake,
    play,
)
from tests.sim.gates import Fault
from tests.sim.invariants import Row
from tests.sim.pods import Birth, Mood
from tests.sim.processes import IDLE, LEASE, TTL, TURN
from tests.sim.world import World

DOOR0, DOOR1, SCALER = 0, 1, 2


@contextmanager
def opened() -> Iterator[World]:
    """A world with one session that never had a pod, and a Redis past its first lease period."""
    world = World()
    world.create()
    world.run(LEASE + 1)
    try:
        yield world
    finally:
        world.close()


def woken(world: World) -> World:
    Wake().do(world)
    world.run(3.0)
    assert world.machines.pods
    return world


@pytest.fixture
def world() -> Iterator[World]:
    with opened() as world:
        yield world


@pytest.fixture
def awake(world: World) -> World:
    """The same world with a pod that answers."""
    return woken(world)


def instant(happened: Callable[[World], object]) -> float:
    """Return the seconds until it happens in an awake world without actions."""
    with opened() as world:
        woken(world)
        began = world.loop.time()
        assert world.loop.run_until(lambda: bool(happened(world)), 2 * TTL, look_every=0.001)
        return world.loop.time() - began


def results(world: World) -> list[Row]:
    return list(world.facts.messages().values())


def attempts(world: World) -> list[int]:
    assert [row.status for row in results(world)] == ["processed"] * len(results(world))
    return [row.attempt for row in results(world)]


def pods_of(world: World, message_id: str) -> list[str]:
    return [each.uid for each in world.machines.deliveries if each.message_id == message_id]


# -- crashes -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("at", ["after store.accept", "before redis.take"])
def test_crash_between_accept_and_take(awake: World, at: str) -> None:
    play(awake, SetTrap(DOOR0, Fault.CRASH, at=at), Send(0), 1.0)
    assert attempts(awake) == [2]
    assert pods_of(awake, "m1") == ["pod1"], "never delivered before: no reason to replace the pod"


@pytest.mark.parametrize("at", ["after redis.take", "before pod.chat"])
def test_crash_after_the_claim_before_the_delivery(awake: World, at: str) -> None:
    """This looks like a crash after the delivery, so the pod is replaced."""
    play(awake, SetTrap(DOOR0, Fault.CRASH, at=at), Send(0), 1.0)
    assert attempts(awake) == [2]
    assert pods_of(awake, "m1") == ["pod2"]


def test_crash_after_the_result_before_the_inbox_knows(awake: World) -> None:
    """The next message runs, the first is not run again."""
    play(awake, SetTrap(DOOR0, Fault.CRASH, at="before redis.finish"), Send(0), 1.0, Send(1))
    assert attempts(awake)[0] == 1
    assert len(pods_of(awake, "m1")) == 1


def test_crash_before_the_result_is_recorded(awake: World) -> None:
    play(awake, SetTrap(DOOR0, Fault.CRASH, at="before store.record"), Send(0), 0.1, Send(1), 1.0)
    assert pods_of(awake, "m1") == ["pod1", "pod2"]
    assert attempts(awake) == [2, 1]


@pytest.mark.parametrize("with_pods", [True, False])
@pytest.mark.parametrize("after", [0.001, 0.02, 0.2, 0.7])
def test_the_scaler_dies_while_it_starts_a_pod(world: World, after: float, with_pods: bool) -> None:
    play(world, Births(0, (Birth.SLOW,)), Send(0), after, RestartScaler(with_pods))
    assert attempts(world) == [1]


@pytest.mark.parametrize("script", ["before runtime.stop_pod", "before redis.publish", "after redis.fence"])
def test_the_scaler_dies_at_work(awake: World, script: str) -> None:
    play(awake, SetTrap(SCALER, Fault.CRASH, at=script), Send(0), IDLE + 3, Send(1), IDLE + 3)
    assert len(attempts(awake)) == 2


# -- Redis -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("emptied", [FlushRedis(), RestartRedis(0.5), RestartRedis(3.0), RestartRedis(0.5, old=True)])
def test_redis_forgets_during_a_turn(awake: World, emptied: Action) -> None:
    """The front door asserts its lease again: the turn does not run twice, and its pod is not replaced."""
    awake.keep_snapshot()
    play(awake, Moods(0, (Mood.SLOW,)), Send(0), 2.0, emptied, Send(1))
    assert attempts(awake)[0] == 1
    assert pods_of(awake, "m1") == ["pod1"]


@pytest.mark.parametrize("script", ["take", "claim", "add", "finish", "wake", "hot", "rpop", "subscribe"])
def test_the_reply_to_a_front_door_is_lost(world: World, script: str) -> None:
    trap = SetTrap(DOOR0, Fault.REFUSE, at=f"after redis.{script}")
    play(world, trap, SetTrap(DOOR1, Fault.REFUSE, at=trap.at), Wake(0), Send(0), 0.01, Send(1), 5.0, Send(0))
    assert len(attempts(world)) == 3


@pytest.mark.parametrize("script", ["desire", "publish", "fence", "lost", "phase", "awake"])
def test_the_reply_to_the_scaler_is_lost(world: World, script: str) -> None:
    play(world, SetTrap(SCALER, Fault.REFUSE, at=f"after redis.{script}"), Send(0), IDLE + 4, Send(1))
    assert len(attempts(world)) == 2


# -- the same instant --------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def falls_asleep() -> float:
    return instant(lambda world: not world.redis.look("HGET", "session:s1", "pod"))


@pytest.fixture(scope="module")
def expires() -> float:
    return instant(lambda world: not world.facts.unexpired())


AROUND = [step / 1000 for step in (-30, -21, -5, -3, -2, -1, 0, 1, 2, 3, 5, 21, 30)]


@pytest.mark.parametrize("after", [0.0, 0.0005, 0.001, 0.0015, 0.002, 0.003, 0.005, 0.02, 0.1, 1.0])
@pytest.mark.parametrize("when_idle", [True, False])
def test_sleep_at_the_instant_of_a_message(awake: World, after: float, when_idle: bool) -> None:
    play(awake, Sleep(0, when_idle=when_idle), after, Send(1))
    assert len(attempts(awake)) == 1
    assert not any(each.how == "PodDied" for each in awake.machines.deliveries)


@pytest.mark.parametrize("after", AROUND)
def test_idle_sleep_at_the_instant_of_a_message(awake: World, falls_asleep: float, after: float) -> None:
    play(awake, falls_asleep + after, Send(1))
    assert len(attempts(awake)) == 1
    assert not any(each.how == "PodDied" for each in awake.machines.deliveries)


@pytest.mark.parametrize("after", AROUND)
def test_expiry_at_the_instant_of_a_message(awake: World, expires: float, after: float) -> None:
    play(awake, expires + after, Send(1))
    assert len(attempts(awake)) == 1


# -- the end of a turn by other means ----------------------------------------------------------------------------------


@pytest.mark.parametrize("door", [0, 1])
def test_delete_during_a_turn(awake: World, door: int) -> None:
    play(awake, Moods(0, (Mood.SLOW,)), Send(0, wait=40.0), 0.1, Send(1, wait=40.0), 3.0, Delete(door))
    assert not results(awake)
    assert [type(each.error).__name__ for each in awake.clients.calls if each.what == "send"] == ["NotFound"] * 2


@pytest.mark.parametrize("door", [0, 1])
def test_cancel_during_a_turn(awake: World, door: int) -> None:
    """Its pod is replaced, and the next message runs."""
    play(awake, Moods(0, (Mood.HANG,)), Send(0), 0.1, Send(1), 3.0, Cancel(door, 0))
    assert [row.status for row in results(awake)] == ["failed", "processed"]
    assert pods_of(awake, "m2") == ["pod2"]


def test_a_pod_dies_thrice(awake: World) -> None:
    """The message fails visibly, and the next one runs."""
    play(awake, Moods(0, (Mood.DIE,) * 3), Send(0), 0.1, Send(1), 10.0)
    assert [(row.status, row.attempt, row.deaths) for row in results(awake)] == [("failed", 3, 3), ("processed", 1, 0)]


def test_a_turn_takes_too_long(awake: World) -> None:
    play(awake, Moods(0, (Mood.HANG,)), Send(0), 0.1, Send(1), TURN)
    assert [row.status for row in results(awake)] == ["failed", "processed"]
    assert pods_of(awake, "m2") == ["pod2"]


# -- failed once -------------------------------------------------------------------------------------------------------


def test_redis_fails_while_a_front_door_subscribes(world: World) -> None:
    """The loop that takes announced sessions must not end."""
    world.restart_door(0)
    play(world, SetTrap(DOOR0, Fault.REFUSE, at="before redis.subscribe"), 1.0, Send(0))


def test_a_front_door_stalls_between_claim_and_delivery(world: World) -> None:
    """It continues after its lease ran out and no other front door took it: it must not renew the lease endlessly."""
    world.doors[1].gate.crash()
    play(world, SetTrap(DOOR0, Fault.STALL, 1, "before store.get_message", LEASE + 1), Send(0), LEASE + 3)


def test_a_message_that_could_not_be_enqueued_keeps_its_place(awake: World) -> None:
    """An acknowledged message is missing in the inbox when the next one arrives, while the first one ends."""
    ends_after = TURN * 0.8
    play(
        awake,
        Moods(0, (Mood.SLOW,)),
        Send(0),
        ends_after - 0.06,
        SetTrap(DOOR0, Fault.REFUSE, at="before redis.take"),
        Send(0),
        0.03,
        Send(1),
        0.1,
    )
    assert attempts(awake) == [1, 2, 2]


def test_sleep_when_idle_is_forgotten_when_the_pod_is_gone(world: World) -> None:
    """A turn that took too long ends the pod, and with it the pending sleep."""
    play(world, Moods(0, (Mood.HANG,)), Send(0), 3.0, Sleep(0, when_idle=True), 40.0)
    assert world.redis.look("HGET", "session:s1", "sleep") is None


def test_redis_comes_back_with_a_wish_for_a_session_that_expired(awake: World) -> None:
    """Its class is no longer known there, which is not a failure of the session."""
    awake.keep_snapshot()
    play(awake, TTL + 3, RestartRedis(0.5, old=True))
    assert awake.facts.failed() == []


@pytest.mark.parametrize("birth", Birth)
def test_sleep_while_a_pod_starts(world: World, birth: Birth) -> None:
    """The scaler learns after the end of a start that the pod is no longer wanted: it ends without a notification."""
    stall = SetTrap(SCALER, Fault.STALL, at="before redis.desire", seconds=6.0)
    play(world, Births(0, (birth,)), Wake(), 0.008, stall, Sleep(), 9.0)
    assert world.facts.failed() == world.facts.woken() == []


def test_a_message_was_cancelled_while_redis_was_away(world: World) -> None:
    """The inbox has a cancelled message, and the pod does not start, so only the expiry removes it."""
    never = Births(0, (Birth.NEVER,) * 9)
    play(world, never, Send(0), 0.1, SetTrap(DOOR0, Fault.REFUSE, at="before redis.cancel"), Cancel(0), TTL)
    assert not world.redis.look("KEYS", "session:*")


def test_a_front_door_crashes_while_a_session_expires(awake: World) -> None:
    trap = SetTrap(DOOR0, Fault.CRASH, at="after store.expire")
    play(awake, trap, SetTrap(DOOR1, Fault.CRASH, at=trap.at), 0.1, Send(0), 1.0, Sleep(), 2.0, TTL + 3)
    assert awake.redis.look("HKEYS", "session:s1") == [b"retire"]


def test_redis_comes_back_with_a_session_that_was_deleted(world: World) -> None:
    """No pod may be started or kept for it, even with one of its messages in the inbox."""
    Send(0).do(world)
    world.run(0.05)
    world.keep_snapshot()
    play(world, 3.0, Delete(0), 5.0, RestartRedis(0.5, old=True))


def test_a_scaler_that_was_away_ends_the_pod_of_a_session_that_expired(awake: World) -> None:
    """The pod of the cancelled turn must end, and Redis remembers that for longer than the session's TTL."""
    play(
        awake,
        SetTrap(DOOR0, Fault.STALL, at="after pod.chat", seconds=1.0),
        Send(0),
        0.7,
        SetTrap(SCALER, Fault.CRASH, at="before redis."),
        Cancel(1),
        TTL + 2,
        RestartScaler(),
        Send(1),
        1.0,
    )
    assert pods_of(awake, "m2") == ["pod2"]
