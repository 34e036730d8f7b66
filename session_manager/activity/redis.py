"""The adapter of both activity ports on Redis: sessions, their pods and notes. The turns are in ``redis_turns``."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager

import orjson

from session_manager.activity.link import load_script
from session_manager.activity.protocol import (
    LAGGED,
    START_FAILED,
    Allowance,
    Claim,
    Desire,
    FeedNote,
    Fenced,
    LiveNote,
    Wakefulness,
    Woken,
)
from session_manager.activity.redis_turns import RedisTurns, milliseconds, trace_of_task
from session_manager.domain.session import Failure, Hot
from session_manager.domain.session_class import SessionClass
from session_manager.domain.times import Micros
from session_manager.runtime.protocol import PodAddress

DELETED_MARK_MS = 3_600_000
DEATH_KEPT_MS = 60_000
ROOM = 3  # the mode of fence.lua for a pod that makes room for another one
MAX_WAITING = 1000
MAX_WAITING_BYTES = 4 * 1024 * 1024  # a few of the largest deltas that an agent may stream


class WaitingNotes(asyncio.Queue[FeedNote]):
    """A bounded queue: a watcher that does not keep up loses notes, so that the process does not run out of memory.

    Without an ``allowance`` it loses those for which there is no room. With one it loses all, and gets ``LAGGED``.
    """

    def __init__(self, allowance: Allowance | None = None) -> None:
        super().__init__()
        self._allowance = allowance
        self._sizes: deque[int] = deque()
        self._bytes = 0
        self._lagging = False

    def offer(self, size: int, note: FeedNote) -> None:
        """Add the note, of ``size`` bytes, if there is room for it."""
        if self._lagging:
            return
        if self._has_room(size):
            self._sizes.append(size)
            self._bytes += size
            self.put_nowait(note)
        elif self._allowance is not None:
            self.drop()
            self._lagging = True
            self._sizes.append(0)
            self.put_nowait(LAGGED)

    def _has_room(self, size: int) -> bool:
        if self.qsize() >= MAX_WAITING or self._bytes + size > MAX_WAITING_BYTES:
            return False
        return self._allowance is None or self._allowance.take(size)

    def drop(self) -> None:
        """Drop all notes that wait."""
        while not self.empty():
            self.get_nowait()

    def _get(self) -> FeedNote:
        size = self._sizes.popleft()
        self._bytes -= size
        if self._allowance is not None:
            self._allowance.free(size)
        return super()._get()


class RedisActivity(RedisTurns):
    """TurnActivity and ScalerActivity. ``lease`` and ``heartbeat`` in seconds.

    ``has_unfinished`` asks SQL whether an accepted message has no result; None for a process without SQL.
    ``confirm`` raises ActivityUnavailable if this process must not decide anything.
    """

    _heard: tuple[bytes, LiveNote] | None = None  # the note that was heard last

    # -- wake, sleep, end ----------------------------------------------------------------------------------------------

    async def wake(self, session: str, session_class: SessionClass, keep_awake: float = 0.0, user: str = "") -> Woken:
        idle, ttl, keep = map(milliseconds, (session_class.idle_timeout, session_class.ttl, keep_awake))
        reply = await self._call("wake", session, idle, keep, session_class.name, ttl, user, trace_of_task())
        return Woken(reply[0] == b"AWAKE", int(reply[1]))

    async def fence(
        self, session: str, session_class: SessionClass, *, force: bool = False, suspend: bool = False
    ) -> Fenced:
        how = 2 if suspend else int(force)
        reply = await self._call("fence", session, how, milliseconds(session_class.idle_timeout))
        return Fenced(reply[0].decode())

    async def crowd(self, users: Mapping[str, int]) -> None:
        await self._call("crowd", "", *[part for pair in users.items() for part in pair])

    async def make_room(self, session: str) -> bool:
        reply = await self._call("fence", session, ROOM)
        return bool(reply[0] == b"PASSED")

    async def sleep_when_idle(self, session: str) -> None:
        await self._call("sleep_when_idle", session)

    async def delete(self, session: str) -> None:
        await self._call("delete", session, DELETED_MARK_MS, orjson.dumps({"kind": "session.deleted"}))

    async def expire(self, session: str) -> bool:
        return bool((await self._call("expire", session))[0] == b"OK")

    async def ended(self, session: str) -> None:
        await self._call("ended", session)

    # -- looking -------------------------------------------------------------------------------------------------------

    async def hot(self, session: str) -> Hot:
        if not self.generation:
            await self._adopt(b"")
        reply = await self._link.script(load_script("hot"), (self.generation, session))
        deadline, address, length, holder, phase, reason, remedy, next_try, tries = reply
        failure = None
        if reason:
            failure = Failure(reason.decode(), remedy.decode(), Micros(int(float(next_try or 0)) * 1000), int(tries))
        return Hot(
            wanted=bool(deadline),
            address=bool(address),
            phase=phase.decode(),
            queue_length=length,
            failure=failure,
            deadline=Micros(int(float(deadline)) * 1000) if deadline else None,
            running=holder.split(b" ")[0].decode() or None,
        )

    async def awake(self) -> dict[str, Wakefulness]:
        flat = await self._link.script(load_script("awake"), (self.generation, b""))
        return {
            flat[i].decode(): Wakefulness(bool(flat[i + 1]), bool(flat[i + 2]), flat[i + 3].decode())
            for i in range(0, len(flat), 4)
        }

    # -- announcements -------------------------------------------------------------------------------------------------

    async def next_ready(self) -> str | None:
        _, session = await self._call("ready", "", self._lease_ms)
        return session.decode() or None

    async def attended(self, session: str) -> None:
        await self._link.execute("ZREM", "ready:taken", session)

    async def on_ready(self, listener: Callable[[], None]) -> None:
        await self._link.subscribe("ready", lambda _: listener(), listener)

    async def on_gone(self, listener: Callable[[str], None]) -> None:
        await self._link.subscribe("gone", lambda uid: listener(uid.decode()))

    async def on_scale(self, listener: Callable[[str], None]) -> None:
        await self._link.subscribe("scale", lambda session: listener(session.decode()))

    # -- live notes ----------------------------------------------------------------------------------------------------

    async def notify(self, session: str, note: FeedNote) -> None:
        await self._link.execute("PUBLISH", f"session:{session}:feed", orjson.dumps(note))

    async def piece(self, claim: Claim, note: FeedNote, keep_for: float, *, begins: bool = False) -> None:
        keep = milliseconds(keep_for)
        text = orjson.dumps(note)
        await self._call("piece", claim.session, claim.message_id, claim.token, text, keep, int(begins))

    async def pieces(self, session: str) -> list[FeedNote]:
        _, holder, kept = await self._call("pieces", session)
        running = holder.partition(b" ")[0].decode()
        notes = orjson.loads(b"[%b]" % b",".join(kept))  # one by one they take four times as long
        return [note for note in notes if note["message_id"] == running]

    @asynccontextmanager
    async def watch(self, session: str, allowance: Allowance | None = None) -> AsyncIterator[asyncio.Queue[FeedNote]]:
        notes = WaitingNotes(allowance)
        channel = f"session:{session}:feed"

        def hear(data: bytes) -> None:
            notes.offer(len(data), self._parsed(data))

        try:
            await self._link.subscribe(channel, hear)
            yield notes
        finally:
            await self._link.unsubscribe(channel, hear)
            notes.drop()

    def _parsed(self, data: bytes) -> LiveNote:
        """Return the note. The link gives the same bytes to each watcher in turn, and they share one note."""
        if self._heard is None or self._heard[0] is not data:
            self._heard = data, LiveNote(orjson.loads(data))
        return self._heard[1]

    # -- scaling -------------------------------------------------------------------------------------------------------

    async def beat(self, *, deputy: bool = False) -> bool:
        if deputy:
            return bool((await self._call("deputy", "", self._name, self._heartbeat_ms))[0] == b"OK")
        if self._confirm is not None:
            await self._confirm()
        await self._link.execute("SET", "heartbeat", "1", "PX", self._heartbeat_ms)
        return True

    async def watched(self) -> bool:
        return bool(await self._link.execute("EXISTS", "heartbeat"))

    async def desire(self, session: str) -> Desire:
        reply = await self._call("desire", session)
        _, deleted, class_name, published, retire, tries, wanted, due, pod, ended, pushed, user, trace = reply
        return Desire(
            deleted=bool(deleted),
            class_name=class_name.decode(),
            published=published.decode(),
            retire=retire.decode(),
            failed_tries=int(tries),
            wanted=bool(wanted),
            due=bool(due),
            pod=pod.decode(),
            ended=ended.decode(),
            pushed=bool(pushed),
            user=user.decode(),
            trace=trace.decode(),
        )

    async def admit(self, session: str) -> None:
        await self._call("admit", session)

    async def unforgotten(self) -> list[str]:
        return [session.decode() for session in await self._link.execute("HKEYS", "ended")]

    async def forgotten(self, session: str) -> None:
        await self._link.execute("HDEL", "ended", session)

    async def publish(self, session: str, address: PodAddress, session_class: SessionClass, *, old: bool) -> bool:
        idle = milliseconds(session_class.idle_timeout)
        reply = await self._call("publish", session, address.ip, address.port, address.uid, idle, int(old))
        return bool(reply[0] == b"OK")

    async def lost(self, session: str, uid: str) -> None:
        await self._call("lost", session, uid)

    async def died(self, uid: str, reason: str) -> None:
        await self._link.execute("SET", f"pod:{uid}:death", reason, "PX", DEATH_KEPT_MS)

    async def why_died(self, uid: str) -> str | None:
        reason = await self._link.execute("GET", f"pod:{uid}:death")
        return None if reason is None else reason.decode()

    async def fail(self, session: str, failure: Failure, retry_in: float) -> None:
        note = orjson.dumps({"kind": START_FAILED})
        retry = milliseconds(retry_in)
        await self._call("fail", session, failure.reason, failure.remedy, retry, failure.tries, note)

    async def phase(self, session: str, words: str) -> None:
        note = orjson.dumps({"kind": "session.phase", "phase": words})
        await self._call("phase", session, words, note)
