"""The pods of the world, and the two ways to reach them: the runtime, which starts and stops them, and the client."""

from __future__ import annotations

import asyncio
import json
from collections import defaultdict
from collections.abc import Callable
from contextvars import ContextVar
from dataclasses import dataclass, field
from enum import StrEnum
from random import Random

from session_manager.domain.errors import (
    PodBusy,
    PodCannotStart,
    PodDied,
    PodMisdirected,
    PodRejected,
    PodUnreachable,
)
from session_manager.domain.session_class import SessionClass
from session_manager.podclient.protocol import DeltaListener, TurnRequest
from session_manager.runtime.protocol import ExitListener, PhaseListener, PodAddress, PodExit
from tests.sim.gates import Gate


class Mood(StrEnum):
    """The behaviour of a pod at the next message."""

    WELL = "well"
    SLOW = "slow"  # longer than a lease, shorter than a turn may take
    HANG = "hang"
    DIE = "die"
    BUSY = "busy"
    REJECT = "reject"
    MISDIRECT = "misdirect"
    STREAM = "stream"


class Birth(StrEnum):
    """The behaviour of the next pod that is started."""

    WELL = "well"
    SLOW = "slow"
    FAIL = "fail"
    NEVER = "never"  # its probe never answers


@dataclass(slots=True)
class Delivery:
    """One request that reached a pod. ``ended`` is None while the pod works on it."""

    session: str
    message_id: str
    attempt: int
    uid: str
    door: str
    claim: str
    began: float
    ended: float | None = None
    how: str = ""


@dataclass(eq=False, slots=True)
class Pod:
    session: str
    address: PodAddress
    born_of: Gate
    ready: asyncio.Event = field(default_factory=asyncio.Event)
    gone: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def uid(self) -> str:
        return self.address.uid

    @property
    def answers(self) -> bool:
        return self.ready.is_set() and not self.gone.is_set()


CLAIM: ContextVar[str] = ContextVar("CLAIM", default="")
"""The token of the claim that the current task runs."""


class Machines:
    """All pods of all owners, with the files that they keep."""

    def __init__(self, random: Random) -> None:
        self.random = random
        self.pods: dict[str, Pod] = {}
        self.files: set[str] = set()
        self.moods: dict[str, list[Mood]] = defaultdict(list)
        self.births: dict[str, list[Birth]] = defaultdict(list)
        self.deliveries: list[Delivery] = []
        self.on_delivery: Callable[[Delivery], None] = lambda delivery: None
        self.on_stop: Callable[[Pod], None] = lambda pod: None
        self._born = 0
        self._exits: list[tuple[Gate, ExitListener]] = []

    def listen(self, gate: Gate, listener: ExitListener) -> None:
        self._exits = [each for each in self._exits if not each[0].dead] + [(gate, listener)]

    def create(self, session: str, born_of: Gate) -> Pod:
        self._born += 1
        # Ports are reused, uids are not.
        pod = Pod(session, PodAddress("127.0.0.1", 20_000 + self._born % 3, f"pod{self._born}"), born_of)
        self.pods[session] = pod
        self.files.add(session)
        return pod

    def remove(self, pod: Pod) -> None:
        pod.gone.set()
        if self.pods.get(pod.session) is pod:
            del self.pods[pod.session]

    def die(self, session: str) -> None:
        """The session's pod ends by itself, if there is one."""
        pod = self.pods.get(session)
        if pod is None:
            return
        told = pod.answers
        self.remove(pod)
        if told:
            for gate, listener in self._exits:
                if not gate.dead:
                    asyncio.get_running_loop().call_soon(listener, PodExit(session, pod.uid, "exit code 1"))

    def next_birth(self, session: str) -> Birth:
        return self.births[session].pop(0) if self.births[session] else Birth.WELL

    def next_mood(self, session: str) -> Mood:
        return self.moods[session].pop(0) if self.moods[session] else Mood.WELL


class SimRuntime:
    """The runtime of one life of the scaler. Pods outlive a scaler, unless their owner ends with it."""

    def __init__(self, machines: Machines, gate: Gate) -> None:
        self._machines = machines
        self._gate = gate

    async def start(self) -> None: ...
    async def close(self, grace: float | None = None) -> None: ...

    def on_exit(self, listener: ExitListener) -> None:
        self._machines.listen(self._gate, listener)

    async def start_pod(self, session: str, session_class: SessionClass, on_phase: PhaseListener) -> PodAddress:
        await self._gate.before("runtime.start_pod")
        present = self._machines.pods.get(session)
        if present is not None and present.born_of is self._gate:
            raise AssertionError(f"a second pod is started for {session}")
        # Wait for the pod that an earlier life of the scaler was starting.
        birth = self._machines.next_birth(session)
        pod = present or self._machines.create(session, self._gate)
        on_phase("Starting")
        try:
            await self._become_ready(pod, birth, session_class)
        except BaseException:
            self._machines.remove(pod)
            raise
        await self._gate.after("runtime.start_pod")
        return pod.address

    async def _become_ready(self, pod: Pod, birth: Birth, session_class: SessionClass) -> None:
        random, limit = self._machines.random, session_class.probe.startup_timeout
        if birth is Birth.FAIL:
            await asyncio.sleep(random.choice((0.01, 0.3)))
            raise PodCannotStart("Exited", "look at the logs")
        if birth is Birth.NEVER:
            await asyncio.sleep(limit)
            raise PodCannotStart("NotReady", "look at the probe")
        await asyncio.sleep(limit * 0.8 if birth is Birth.SLOW else random.choice((0.02, 0.2, 0.8)))
        if pod.gone.is_set():
            raise PodCannotStart("Exited", "look at the logs")
        pod.ready.set()

    async def stop_pod(self, session: str, uid: str, grace: float) -> None:
        await self._gate.before("runtime.stop_pod")
        pod = self._machines.pods.get(session)
        if pod is not None and pod.uid == uid:
            self._machines.on_stop(pod)
            await asyncio.sleep(self._machines.random.choice((0.0, 0.01, grace)))
            self._machines.remove(pod)
        await self._gate.after("runtime.stop_pod")

    def pods(self) -> dict[str, PodAddress]:
        return {session: pod.address for session, pod in self._machines.pods.items() if pod.answers}

    async def forget(self, session: str, *, files: bool) -> None:
        await self._gate.before("runtime.forget")
        orphan = self._machines.pods.get(session)
        if orphan is not None and not orphan.answers:
            self._machines.remove(orphan)
        if files:
            self._machines.files.discard(session)
        await self._gate.after("runtime.forget")

    def expired(self, session: str) -> None: ...

    async def gone(self, session: str) -> bool:
        await self._gate.before("runtime.gone")
        gone = session not in self._machines.pods and session not in self._machines.files
        await self._gate.after("runtime.gone")
        return gone


class SimPodClient:
    """The pod client of one life of a front door."""

    def __init__(self, machines: Machines, gate: Gate) -> None:
        self._machines = machines
        self._gate = gate

    async def start(self) -> None: ...
    async def close(self) -> None: ...
    def drop(self, uid: str) -> None: ...

    async def chat(
        self, address: PodAddress, session_class: SessionClass, request: TurnRequest, on_delta: DeltaListener
    ) -> str:
        await self._gate.before("pod.chat")
        await asyncio.sleep(self._gate.latency())
        pod = self._machines.pods.get(request.session)
        if pod is None or pod.address != address or not pod.answers:
            raise PodUnreachable
        delivery = self._deliver(request, pod)
        try:
            reply = await self._answer(pod, delivery, session_class, on_delta)
            await self._gate.after("pod.chat")
        except BaseException as error:
            delivery.how = type(error).__name__
            raise
        finally:
            delivery.ended = asyncio.get_running_loop().time()
        return reply

    def _deliver(self, request: TurnRequest, pod: Pod) -> Delivery:
        now = asyncio.get_running_loop().time()
        claim = CLAIM.get()
        delivery = Delivery(request.session, request.message_id, request.attempt, pod.uid, self._gate.name, claim, now)
        self._machines.deliveries.append(delivery)
        self._machines.on_delivery(delivery)
        return delivery

    async def _answer(self, pod: Pod, delivery: Delivery, session_class: SessionClass, on_delta: DeltaListener) -> str:
        mood = delivery.how = self._machines.next_mood(pod.session)
        if mood is Mood.BUSY:
            raise PodBusy(retry_after=self._machines.random.choice((0.1, 1.0)))
        if mood is Mood.REJECT:
            raise PodRejected("the pod answered 500")
        if mood is Mood.MISDIRECT:
            raise PodMisdirected
        if mood is Mood.STREAM:
            await on_delta('"half"')
        await self._work(pod, mood, session_class)
        words = {"message_id": delivery.message_id, "attempt": delivery.attempt, "pod": pod.uid}
        return json.dumps(words)

    async def _work(self, pod: Pod, mood: Mood, session_class: SessionClass) -> None:
        random, limit = self._machines.random, session_class.turn_timeout
        takes = {Mood.SLOW: limit * 0.8, Mood.HANG: limit * 10, Mood.DIE: random.choice((0.0, 0.05, 1.0))}
        try:
            async with asyncio.timeout(takes.get(mood, random.choice((0.005, 0.05, 0.5)))):
                await pod.gone.wait()
        except TimeoutError:
            if mood is Mood.DIE and not pod.gone.is_set():
                self._machines.die(pod.session)
        if pod.gone.is_set():
            raise PodDied
