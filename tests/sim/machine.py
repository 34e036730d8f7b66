"""The state machine that draws histories: the next action, and the time until it."""

from __future__ import annotations

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule

from tests.sim import actions as a
from tests.sim.gates import Fault
from tests.sim.pods import Birth, Mood
from tests.sim.processes import HEARTBEAT, IDLE, LEASE, REPAIR, TTL, TURN
from tests.sim.world import World

door = st.integers(0, 1)
session = st.sampled_from((0, 0, 0, 1, 1, 2))
who = st.integers(0, 2)
which = st.integers(0, 9)
SHORT = (0.5, REPAIR, HEARTBEAT)
LONG = (LEASE, LEASE + 1, IDLE - 1, IDLE, IDLE + 2, TURN + 1)

_send = st.builds(a.Send, door, session, st.sampled_from((None, None, 0.0, 10.0)))
_send_with_key = st.builds(
    a.Send, door, session, st.just(None), st.sampled_from(("k1", "k2")), st.sampled_from(("text", "text", "other"))
)
_trap = st.builds(
    a.SetTrap,
    who,
    st.sampled_from(Fault),
    st.integers(0, 25),
    seconds=st.sampled_from((0.05, 1.0, LEASE + 1, IDLE + 1)),
)
_moods = st.lists(st.sampled_from(Mood), min_size=1, max_size=4).map(tuple)
_births = st.lists(st.sampled_from(Birth), min_size=1, max_size=3).map(tuple)

# The relative frequency of each kind of action.
KINDS: dict[str, tuple[int, st.SearchStrategy[a.Action]]] = {
    "send": (12, _send),
    "send with key": (3, _send_with_key),
    "time": (8, st.builds(a.Pass, st.sampled_from((*SHORT, *SHORT, *SHORT, *LONG, *LONG, TTL + 1)))),
    "trap": (5, _trap),
    "mood": (5, st.builds(a.Moods, session, _moods)),
    "pod dies": (2, st.builds(a.PodDies, session)),
    "birth": (2, st.builds(a.Births, session, _births)),
    "hang up": (1, st.builds(a.HangUp, which)),
    "cancel": (3, st.builds(a.Cancel, door, which)),
    "wake": (2, st.builds(a.Wake, door, session, st.sampled_from((0.0, 0.0, 20.0)))),
    "sleep": (3, st.builds(a.Sleep, door, session, st.booleans())),
    "delete": (1, st.builds(a.Delete, door, session)),
    "create": (1, st.builds(a.Create)),
    "door restarts": (2, st.builds(a.RestartDoor, door)),
    "scaler restarts": (2, st.builds(a.RestartScaler, st.booleans())),
    "redis forgets": (1, st.builds(a.FlushRedis)),
    "redis remembers": (1, st.builds(a.KeepSnapshot)),
    "redis restarts": (1, st.builds(a.RestartRedis, old=st.booleans())),
    "redis away": (1, st.builds(a.RedisAway, st.sampled_from((0.05, 1.0, 3.0, LEASE + 2)))),
    "database away": (1, st.builds(a.DatabaseAway, st.sampled_from((0.05, 1.0, 3.0, LEASE + 2)))),
    "deaf": (1, st.builds(a.Deaf, who, st.sampled_from((1.0, 5.0)))),
}
MAY_BE_MISSING = tuple(KINDS)[3:]
PAUSES = st.sampled_from((0.0, 0.0, 0.0005, 0.002, 0.01, 0.05, 0.3, 1.0))
KIND = st.sampled_from([kind for kind, (weight, _) in KINDS.items() for _ in range(weight)])
WHAT = KIND.flatmap(lambda kind: st.tuples(st.just(kind), KINDS[kind][1]))


class Histories(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.world = World()

    @initialize(seed=st.integers(0, 2**16), missing=st.sets(st.sampled_from(MAY_BE_MISSING)), awake=st.booleans())
    def begin(self, seed: int, missing: set[str], awake: bool) -> None:
        """Choose some kinds of trouble for a history: too many at once would hide each other."""
        self.world.close()
        self.world = World(seed)
        self.missing = missing
        for class_name in ("default", "default", "idempotent"):
            session = self.world.create(class_name)
            self.world.run(LEASE / 2)
            if awake:
                self.world.clients.wake(self.world.doors[0], session, 0.0)
        self.world.run(1.0)

    @rule(what=WHAT, pause=PAUSES)
    def happens(self, what: tuple[str, a.Action], pause: float) -> None:
        kind, action = what
        if kind not in self.missing:
            action.do(self.world)
            self.world.run(pause)
            self.world.check()

    def teardown(self) -> None:
        try:
            self.world.come_to_rest(expire=self.world.expire_at_end)
        finally:
            self.world.close()
