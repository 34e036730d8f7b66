"""Everything that may happen, one rule each: hypothesis draws histories of them and shortens those that fail."""

from __future__ import annotations

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from tests.sim.gates import Fault, Trap
from tests.sim.pods import Birth, Mood
from tests.sim.processes import HEARTBEAT, IDLE, LEASE, REPAIR, TTL, TURN
from tests.sim.world import World

DOOR = st.integers(0, 1)
SESSION = st.integers(0, 2)
PAUSE = st.sampled_from((0.0, 0.0005, 0.002, 0.01, 0.05, 0.3))
LEAPS = st.sampled_from((0.1, 0.5, 1.0, REPAIR, HEARTBEAT, LEASE, LEASE + 1, IDLE - 1, IDLE, IDLE + 2, TURN + 1))


class Histories(RuleBasedStateMachine):
    """Every rule ends with a pause, so that the next thing happens while this one is under way."""

    def __init__(self) -> None:
        super().__init__()
        self.world = World()

    @initialize(seed=st.integers(0, 2**16), class_name=st.sampled_from(("default", "idempotent")))
    def begin(self, seed: int, class_name: str) -> None:
        self.world.close()
        self.world = World(seed)
        self.world.run(0.5)
        for name in ("default", class_name):
            self.world.create(name)

    def _go_on(self, pause: float) -> None:
        self.world.run(pause)
        self.world.check()

    def _session(self, number: int) -> str:
        return self.world.sessions[number % len(self.world.sessions)]

    # -- clients -----------------------------------------------------------------------------------------------------

    @rule(door=DOOR, session=SESSION, wait=st.sampled_from((None, 0.0, 10.0)), pause=PAUSE)
    def send(self, door: int, session: int, wait: float | None, pause: float) -> None:
        self.world.clients.send(self.world.doors[door], self._session(session), "text", wait=wait)
        self._go_on(pause)

    @rule(
        door=DOOR,
        session=SESSION,
        key=st.sampled_from(("k1", "k2")),
        text=st.sampled_from(("text", "other")),
        pause=PAUSE,
    )
    def send_with_key(self, door: int, session: int, key: str, text: str, pause: float) -> None:
        self.world.clients.send(self.world.doors[door], self._session(session), text, key)
        self._go_on(pause)

    @rule(which=st.integers(0, 30), pause=PAUSE)
    def hang_up(self, which: int, pause: float) -> None:
        open_calls = [each for each in self.world.clients.calls if not each.task.done()]
        if open_calls:
            open_calls[which % len(open_calls)].task.cancel()
        self._go_on(pause)

    @rule(door=DOOR, which=st.integers(0, 30), pause=PAUSE)
    def cancel(self, door: int, which: int, pause: float) -> None:
        unfinished = self.world.facts.unfinished()
        if unfinished:
            message = self.world.facts.messages()[unfinished[which % len(unfinished)]]
            self.world.clients.cancel(self.world.doors[door], message.session, message.id)
        self._go_on(pause)

    @rule(door=DOOR, session=SESSION, keep=st.sampled_from((0.0, 0.0, 30.0)), pause=PAUSE)
    def wake(self, door: int, session: int, keep: float, pause: float) -> None:
        self.world.clients.wake(self.world.doors[door], self._session(session), keep)
        self._go_on(pause)

    @rule(door=DOOR, session=SESSION, when_idle=st.booleans(), pause=PAUSE)
    def sleep(self, door: int, session: int, when_idle: bool, pause: float) -> None:
        self.world.clients.sleep(self.world.doors[door], self._session(session), when_idle=when_idle)
        self._go_on(pause)

    @rule(door=DOOR, session=SESSION, pause=PAUSE)
    def delete(self, door: int, session: int, pause: float) -> None:
        self.world.clients.delete(self.world.doors[door], self._session(session))
        self._go_on(pause)

    @precondition(lambda self: len(self.world.sessions) < 5)
    @rule()
    def create(self) -> None:
        self.world.create()

    # -- pods --------------------------------------------------------------------------------------------------------

    @rule(session=SESSION, moods=st.lists(st.sampled_from(Mood), min_size=1, max_size=4))
    def change_mood(self, session: int, moods: list[Mood]) -> None:
        self.world.machines.moods[self._session(session)].extend(moods)

    @rule(session=SESSION, births=st.lists(st.sampled_from(Birth), min_size=1, max_size=3))
    def change_births(self, session: int, births: list[Birth]) -> None:
        self.world.machines.births[self._session(session)].extend(births)

    @rule(session=SESSION, pause=PAUSE)
    def pod_dies(self, session: int, pause: float) -> None:
        self.world.loop.call_soon(self.world.machines.die, self._session(session))
        self._go_on(pause)

    # -- faults ------------------------------------------------------------------------------------------------------

    @rule(
        who=st.integers(0, 2),
        fault=st.sampled_from(Fault),
        countdown=st.integers(0, 25),
        seconds=st.sampled_from((0.05, 1.0, LEASE + 1, IDLE + 1)),
    )
    def set_trap(self, who: int, fault: Fault, countdown: int, seconds: float) -> None:
        process = (*self.world.doors, self.world.scaler)[who]
        process.gate.set_trap(Trap(fault, countdown, seconds=seconds))

    @rule(door=DOOR, pause=PAUSE)
    def restart_door(self, door: int, pause: float) -> None:
        self.world.restart_door(door)
        self._go_on(pause)

    @rule(with_pods=st.booleans(), pause=PAUSE)
    def restart_scaler(self, with_pods: bool, pause: float) -> None:
        self.world.restart_scaler(with_pods=with_pods)
        self._go_on(pause)

    @rule(how=st.sampled_from(("flush", "restart", "away", "away long")), pause=PAUSE)
    def redis_trouble(self, how: str, pause: float) -> None:
        if how == "flush":
            self.world.flush_redis()
        elif how == "restart":
            self.world.restart_redis(0.5)
        else:
            self.world.redis.go_down(1.0 if how == "away" else LEASE + 2)
        self._go_on(pause)

    @rule(seconds=st.sampled_from((0.3, 3.0, LEASE + 1)), pause=PAUSE)
    def database_away(self, seconds: float, pause: float) -> None:
        self.world.database.go_down(seconds)
        self._go_on(pause)

    @rule(who=st.integers(0, 2), seconds=st.sampled_from((1.0, 5.0)))
    def deaf(self, who: int, seconds: float) -> None:
        process = (*self.world.doors, self.world.scaler)[who]
        process.link.deaf_until = self.world.loop.time() + seconds

    # -- time --------------------------------------------------------------------------------------------------------

    @rule(seconds=LEAPS)
    def time_passes(self, seconds: float) -> None:
        self._go_on(seconds)

    @rule()
    def a_long_time_passes(self) -> None:
        self._go_on(TTL + 1)

    def teardown(self) -> None:
        try:
            self.world.come_to_rest(expire=self.world.expire_at_end)
        finally:
            self.world.close()
