"""Durable chat on awake sessions under load, compared with other ways to the same pod in alternating runs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import chain
from statistics import median

import orjson

from benchmarks import load
from benchmarks.front import Front, gathered
from benchmarks.peers import CONNECTIONS, OURS, Peer
from benchmarks.progress import say

BODY = orjson.dumps({"message": "What is the capital of France, and how many people live there?"})
SESSIONS = 500


@dataclass(slots=True)
class Runs:
    """The runs of one peer: requests per second, milliseconds, microseconds of CPU per request."""

    rate: list[float] = field(default_factory=list)
    p50: list[float] = field(default_factory=list)
    p99: list[float] = field(default_factory=list)
    cpu: list[float] = field(default_factory=list)
    redis: list[float] = field(default_factory=list)

    def add(self, sample: load.Sample) -> None:
        if sample.other or not sample.seconds:
            raise RuntimeError(f"not every answer was 200: {dict(sample.other)}")
        self.rate.append(sample.rate)
        self.p50.append(sample.quantile(0.5) * 1e3)
        self.p99.append(sample.quantile(0.99) * 1e3)
        for measured, used in zip((self.cpu, self.redis), sample.used, strict=False):
            measured.append(used / len(sample.seconds) * 1e6)

    def summary(self) -> dict[str, float]:
        """Medians of requests per second, milliseconds, and microseconds of CPU per request."""
        named = {"rate": self.rate, "p50_ms": self.p50, "p99_ms": self.p99, "cpu_us": self.cpu, "redis_us": self.redis}
        return {name: median(values) for name, values in named.items() if values}


async def our_peer(front: Front, sessions: Sequence[str]) -> Peer:
    """Return the front door as a peer. Each connection has its own share of the sessions, and all are awake."""

    def request(session: str) -> bytes:
        return load.post(f"/session/{session}/chat", BODY, Authorization=f"Bearer {front.key}")

    shares = [[request(session) for session in sessions[i::CONNECTIONS]] for i in range(CONNECTIONS)]
    return Peer(OURS, front.port, shares, [lambda: front.process.cpu, lambda: front.redis_cpu])


async def wake(front: Front, sessions: Sequence[str]) -> None:
    """Send a message to each session."""

    async def one(session: str) -> None:
        await front.expect(200, "POST", f"/session/{session}/chat", {"message": "wake up"}, Prefer="wait=60")

    await gathered(one, sessions)


async def throughput(peers: Sequence[Peer], rounds: int, seconds: float) -> dict[str, Runs]:
    """Run each peer ``rounds`` times, in an order that rotates."""
    runs = {peer.name: Runs() for peer in peers}
    for number in range(rounds):
        first = number % len(peers)
        for peer in chain(peers[first:], peers[:first]):
            sample = await load.run(peer.port, peer.requests, seconds, peer.meters)
            runs[peer.name].add(sample)
            say(f"round {number + 1} of {rounds}: {peer.name} {sample.rate:,.0f}/s")
    return runs


async def latency(peers: Sequence[Peer], rounds: int, seconds: float) -> dict[str, Runs]:
    """Measure the same with one caller."""
    alone = [Peer(peer.name, peer.port, peer.requests[:1], peer.meters) for peer in peers]
    return await throughput(alone, rounds, seconds)
