"""Every possible action, one class each. A history is a list of them, printed as the code that repeats it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from tests.sim.gates import Fault, Trap
from tests.sim.pods import Birth, Mood
from tests.sim.processes import FrontDoor, ScalerHost
from tests.sim.world import World


class Action(Protocol):
    def do(self, world: World) -> None: ...


def _session(world: World, number: int) -> str:
    return world.sessions[number % len(world.sessions)]


def _process(world: World, who: int) -> FrontDoor | ScalerHost:
    processes: tuple[FrontDoor | ScalerHost, ...] = (*world.doors, world.scaler)
    return processes[who]


# -- clients -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Create:
    class_name: str = "default"

    def do(self, world: World) -> None:
        world.create(self.class_name)


@dataclass(frozen=True)
class Send:
    door: int = 0
    session: int = 0
    wait: float | None = None
    key: str | None = None
    text: str = "text"

    def do(self, world: World) -> None:
        world.clients.send(world.doors[self.door], _session(world, self.session), self.text, self.key, self.wait)


@dataclass(frozen=True)
class HangUp:
    """Choose one of the waiting clients."""

    which: int = 0

    def do(self, world: World) -> None:
        waiting = [each for each in world.clients.calls if not each.task.done()]
        if waiting:
            waiting[self.which % len(waiting)].task.cancel()


@dataclass(frozen=True)
class Cancel:
    """Choose one of the messages without a result."""

    door: int = 0
    which: int = 0

    def do(self, world: World) -> None:
        unfinished = world.facts.unfinished()
        if unfinished:
            message = world.facts.messages()[unfinished[self.which % len(unfinished)]]
            world.clients.cancel(world.doors[self.door], message.session, message.id)


@dataclass(frozen=True)
class Wake:
    door: int = 0
    session: int = 0
    keep: float = 0.0

    def do(self, world: World) -> None:
        world.clients.wake(world.doors[self.door], _session(world, self.session), self.keep)


@dataclass(frozen=True)
class Sleep:
    door: int = 0
    session: int = 0
    when_idle: bool = False

    def do(self, world: World) -> None:
        world.clients.sleep(world.doors[self.door], _session(world, self.session), when_idle=self.when_idle)


@dataclass(frozen=True)
class Delete:
    door: int = 0
    session: int = 0

    def do(self, world: World) -> None:
        world.clients.delete(world.doors[self.door], _session(world, self.session))


# -- pods --------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Moods:
    """Set how the pods of the session handle the next messages."""

    session: int
    moods: tuple[Mood, ...]

    def do(self, world: World) -> None:
        world.machines.moods[_session(world, self.session)].extend(self.moods)


@dataclass(frozen=True)
class Births:
    """Set how the next pods of the session behave at their start."""

    session: int
    births: tuple[Birth, ...]

    def do(self, world: World) -> None:
        world.machines.births[_session(world, self.session)].extend(self.births)


@dataclass(frozen=True)
class PodDies:
    session: int = 0

    def do(self, world: World) -> None:
        world.loop.call_soon(world.machines.die, _session(world, self.session))


# -- faults ------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class SetTrap:
    """``who``: 0 and 1 are the front doors, 2 is the scaler."""

    who: int
    fault: Fault
    countdown: int = 0
    at: str = ""
    seconds: float = 0.0

    def do(self, world: World) -> None:
        _process(world, self.who).gate.set_trap(Trap(self.fault, self.countdown, self.at, self.seconds))


@dataclass(frozen=True)
class RestartDoor:
    door: int = 0

    def do(self, world: World) -> None:
        world.restart_door(self.door)


@dataclass(frozen=True)
class RestartScaler:
    with_pods: bool = False

    def do(self, world: World) -> None:
        world.restart_scaler(with_pods=self.with_pods)


@dataclass(frozen=True)
class FlushRedis:
    def do(self, world: World) -> None:
        world.flush_redis()


@dataclass(frozen=True)
class RestartRedis:
    """Restart Redis, empty or with its data at the last ``KeepSnapshot``."""

    seconds: float = 0.5
    old: bool = False

    def do(self, world: World) -> None:
        world.restart_redis(self.seconds, old=self.old)


@dataclass(frozen=True)
class KeepSnapshot:
    def do(self, world: World) -> None:
        world.keep_snapshot()


@dataclass(frozen=True)
class RedisAway:
    seconds: float = 1.0

    def do(self, world: World) -> None:
        world.redis.go_down(self.seconds)


@dataclass(frozen=True)
class DatabaseAway:
    seconds: float = 1.0

    def do(self, world: World) -> None:
        world.database.go_down(self.seconds)


@dataclass(frozen=True)
class Deaf:
    """Hide all publications from a process."""

    who: int
    seconds: float = 1.0

    def do(self, world: World) -> None:
        _process(world, self.who).link.deaf_until = world.loop.time() + self.seconds


# -- time --------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Pass:
    """Let seconds pass without a new action."""

    seconds: float

    def do(self, world: World) -> None:
        world.run(self.seconds)


def play(world: World, *history: Action | float) -> None:
    """Run the actions, check after every step, and wait until all is quiet. Numbers are seconds that pass."""
    for each in history:
        action = Pass(each) if isinstance(each, float) else each
        action.do(world)
        world.run(0.0)
        world.check()
    world.come_to_rest(expire=True)
