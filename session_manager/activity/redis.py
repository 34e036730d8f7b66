"""The adapter of both activity ports on Redis: one Lua script per step, so that each step is one instant.

The scripts stand in ``scripts/``; ``common.lua`` is put in front of each and holds the generation gate, the names of
the keys and what several of them do.  Redis Cluster is not supported: a script touches the keys of one session and
four global ones.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager, suppress
from itertools import count
from typing import Any
from uuid import uuid4

import orjson

from session_manager.activity.generation import Generations
from session_manager.activity.leases import Leases
from session_manager.activity.link import Link, Script, load_script
from session_manager.activity.notes import WaitingNotes
from session_manager.activity.protocol import (
    Claim,
    Desire,
    FeedNote,
    Fenced,
    Gap,
    NoClaim,
    Queued,
    SessionGone,
    Wakefulness,
)
from session_manager.domain.errors import ActivityUnavailable
from session_manager.domain.session import Failure, Hot
from session_manager.domain.session_class import SessionClass
from session_manager.domain.times import Micros
from session_manager.runtime.protocol import Address

TAKE = load_script("take")
CLAIM = load_script("claim")
ADD = load_script("add")
FINISH = load_script("finish")
ABANDON = load_script("abandon")
RENEW = load_script("renew")
CANCEL = load_script("cancel")
WAKE = load_script("wake")
FENCE = load_script("fence")
SLEEP_WHEN_IDLE = load_script("sleep_when_idle")
DELETE = load_script("delete")
EXPIRE = load_script("expire")
ENDED = load_script("ended")
PUBLISH = load_script("publish")
LOST = load_script("lost")
FAIL = load_script("fail")
PHASE = load_script("phase")
DESIRE = load_script("desire")
HOT = load_script("hot")
AWAKE = load_script("awake")
READY = load_script("ready")
DEPUTY = load_script("deputy")

DELETED_MARK_MS = 3_600_000
MAX_ADOPTIONS = 5

Arg = bytes | str | int


def _ms(seconds: float) -> int:
    return round(seconds * 1000)


class RedisActivity:
    """TurnActivity and ScalerActivity. ``lease`` and ``heartbeat`` in seconds.

    ``has_unfinished`` asks SQL whether any accepted message has no result; None where SQL is out of reach.
    ``confirm`` raises ActivityUnavailable where nothing may be decided from here.
    """

    def __init__(
        self,
        link: Link,
        *,
        lease: float,
        heartbeat: float,
        has_unfinished: Callable[[], Awaitable[bool]] | None = None,
        confirm: Callable[[], Awaitable[None]] | None = None,
    ) -> None:
        self._link = link
        self._confirm = confirm
        self._lease_ms = _ms(lease)
        self._heartbeat_ms = _ms(heartbeat)
        self._leases = Leases(lease, self._renew, self._release)
        self._generations = Generations(self._lease_ms, has_unfinished, self._take_back)
        self._renewing: asyncio.Task[None] | None = None
        self._name = uuid4().hex
        self._claims = count()

    async def start(self) -> None:
        """Connect; StartupFailure for wrong credentials, ActivityUnavailable when merely unreachable."""
        self._link.on_connect(self._generations.found)
        await self._link.start()
        self._renewing = asyncio.create_task(self._leases.run(), name="lease renewal")

    async def close(self) -> None:
        if self._renewing is not None:
            self._renewing.cancel()
            with suppress(asyncio.CancelledError):
                await self._renewing
        await self._link.close()

    async def ping(self) -> None:
        await self._link.execute("PING")

    # -- the gate ------------------------------------------------------------------------------------------------

    async def _call(self, script: Script, session: str, *args: Arg) -> list[Any]:
        if self._confirm is not None:
            await self._confirm()
        for _ in range(MAX_ADOPTIONS):
            generation = self._generations.current
            reply: list[Any] = await self._link.script(script, (generation, session, *args))
            if reply[0] == b"GENERATION":
                await self._generations.adopt(generation, self._link.script, self._link.run_id)
            elif reply[0] == b"DELETED":
                raise SessionGone(session)
            else:
                return reply
        raise ActivityUnavailable

    async def _take_back(self, generation: bytes) -> None:
        held = self._leases.held()
        await asyncio.gather(
            *(self._link.script(RENEW, (generation, session, holder, self._lease_ms)) for session, holder in held)
        )

    async def _renew(self, session: str, holder: str) -> bool:
        return bool((await self._call(RENEW, session, holder, self._lease_ms))[0] == b"OK")

    async def _release(self, session: str, holder: str) -> None:
        message_id, token = holder.split(" ")
        await self._call(ABANDON, session, message_id, token, 0, b"")

    # -- turns ---------------------------------------------------------------------------------------------------

    async def take(
        self, session: str, message_id: str, seq: int, lowest_unfinished: int, session_class: SessionClass
    ) -> Claim | Queued | Gap:
        token = self._new_token()
        since = asyncio.get_running_loop().time()
        reply = await self._call(
            TAKE,
            session,
            message_id,
            seq,
            lowest_unfinished,
            token,
            self._lease_ms,
            _ms(session_class.idle_timeout),
            session_class.name,
        )
        if reply[0] == b"RUN":
            return self._claimed(session, token, since, reply)
        if reply[0] == b"QUEUED":
            return Queued(position=reply[1], awake=bool(reply[2]))
        return Gap()

    async def claim(self, session: str, session_class: SessionClass) -> Claim | NoClaim:
        token = self._new_token()
        since = asyncio.get_running_loop().time()
        reply = await self._call(CLAIM, session, token, self._lease_ms, _ms(session_class.idle_timeout))
        if reply[0] == b"RUN":
            return self._claimed(session, token, since, reply)
        return NoClaim(reply[0].decode())

    def _new_token(self) -> str:
        """Never given before: the name of this process' connection, and a number."""
        return f"{self._name}.{next(self._claims)}"

    def _claimed(self, session: str, token: str, since: float, reply: list[Any]) -> Claim:
        _, mid, fresh, replace, ip, port, uid = reply
        message_id = mid.decode()
        self._leases.hold(session, f"{message_id} {token}", since)
        address = Address(ip.decode(), int(port), uid.decode())
        return Claim(session, message_id, token, bool(fresh), bool(replace), address)

    async def add(self, session: str, messages: Iterable[tuple[str, int]], session_class: SessionClass) -> bool:
        pairs = [part for pair in messages for part in pair]
        reply = await self._call(ADD, session, _ms(session_class.idle_timeout), session_class.name, *pairs)
        return bool(reply[1])

    async def finish(
        self, claim: Claim, session_class: SessionClass, note: FeedNote | None, *, pod_spoiled: bool = False
    ) -> int:
        # Before and not after: a renewal that is sent while the reply is on its way would bring the lease back.
        self.let_go(claim)
        reply = await self._call(
            FINISH,
            claim.session,
            claim.message_id,
            claim.token,
            _ms(session_class.idle_timeout),
            _ms(session_class.ttl),
            claim.address.uid if pod_spoiled else b"",
            orjson.dumps(note) if note else b"",
        )
        return int(reply[1])

    async def abandon(self, claim: Claim, session_class: SessionClass, *, replace_pod: bool) -> None:
        self.let_go(claim)
        uid = claim.address.uid if replace_pod else b""
        await self._call(ABANDON, claim.session, claim.message_id, claim.token, _ms(session_class.idle_timeout), uid)

    async def remove(self, session: str, message_id: str, session_class: SessionClass) -> bool:
        reply = await self._call(CANCEL, session, message_id, _ms(session_class.idle_timeout))
        return bool(reply[0] == b"RUNNING")

    def holds(self, claim: Claim) -> bool:
        return self._leases.holds(claim.session, f"{claim.message_id} {claim.token}")

    def let_go(self, claim: Claim) -> None:
        self._leases.drop(claim.session, f"{claim.message_id} {claim.token}")

    async def inbox(self, session: str) -> list[str]:
        return [mid.decode() for mid in await self._link.execute("ZRANGE", f"session:{session}:inbox", 0, -1)]

    # -- wake, sleep, end ----------------------------------------------------------------------------------------

    async def wake(self, session: str, session_class: SessionClass, keep_awake: float = 0.0) -> bool:
        idle, ttl = _ms(session_class.idle_timeout), _ms(session_class.ttl)
        reply = await self._call(WAKE, session, idle, _ms(keep_awake), session_class.name, ttl)
        return bool(reply[0] == b"AWAKE")

    async def fence(
        self, session: str, session_class: SessionClass, *, force: bool = False, suspend: bool = False
    ) -> Fenced:
        how = 2 if suspend else int(force)
        reply = await self._call(FENCE, session, how, _ms(session_class.idle_timeout))
        return Fenced(reply[0].decode())

    async def sleep_when_idle(self, session: str) -> None:
        await self._call(SLEEP_WHEN_IDLE, session)

    async def delete(self, session: str) -> None:
        await self._call(DELETE, session, DELETED_MARK_MS, orjson.dumps({"kind": "session.deleted"}))

    async def expire(self, session: str) -> bool:
        return bool((await self._call(EXPIRE, session))[0] == b"OK")

    async def ended(self, session: str) -> None:
        await self._call(ENDED, session)

    # -- looking -------------------------------------------------------------------------------------------------

    async def hot(self, session: str) -> Hot:
        if not self._generations.current:
            await self._generations.adopt(b"", self._link.script, self._link.run_id)
        reply = await self._link.script(HOT, (self._generations.current, session))
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
        flat = await self._link.script(AWAKE, (self._generations.current, b""))
        return {
            flat[i].decode(): Wakefulness(address=bool(flat[i + 1]), due=bool(flat[i + 2]))
            for i in range(0, len(flat), 3)
        }

    # -- notes ---------------------------------------------------------------------------------------------------

    async def next_ready(self) -> str | None:
        _, session = await self._call(READY, "", self._lease_ms)
        return session.decode() or None

    async def attended(self, session: str) -> None:
        await self._link.execute("ZREM", "ready:taken", session)

    async def on_ready(self, listener: Callable[[], None]) -> None:
        await self._link.subscribe("ready", lambda _: listener(), listener)

    async def on_gone(self, listener: Callable[[str], None]) -> None:
        await self._link.subscribe("gone", lambda uid: listener(uid.decode()))

    async def on_wake(self, listener: Callable[[str], None]) -> None:
        await self._link.subscribe("wake", lambda session: listener(session.decode()))

    async def notify(self, session: str, note: FeedNote) -> None:
        await self._link.execute("PUBLISH", f"session:{session}:feed", orjson.dumps(note))

    @asynccontextmanager
    async def watch(self, session: str) -> AsyncIterator[asyncio.Queue[FeedNote]]:
        notes = WaitingNotes()
        channel = f"session:{session}:feed"
        await self._link.subscribe(channel, notes.offer)
        try:
            yield notes
        finally:
            await self._link.unsubscribe(channel, notes.offer)

    # -- scaling -------------------------------------------------------------------------------------------------

    def on_generation(self, listener: Callable[[], None]) -> None:
        self._generations.on_change(listener)

    @property
    def generation(self) -> bytes:
        return self._generations.current

    async def beat(self, *, deputy: bool = False) -> bool:
        if deputy:
            return bool((await self._call(DEPUTY, "", self._name, self._heartbeat_ms))[0] == b"OK")
        if self._confirm is not None:
            await self._confirm()
        await self._link.execute("SET", "heartbeat", "1", "PX", self._heartbeat_ms)
        return True

    async def watched(self) -> bool:
        return bool(await self._link.execute("EXISTS", "heartbeat"))

    async def desire(self, session: str) -> Desire:
        reply = await self._call(DESIRE, session)
        _, deleted, class_name, published, retire, tries, wanted, due, pod, ended, pushed = reply
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
        )

    async def unforgotten(self) -> list[str]:
        return [session.decode() for session in await self._link.execute("HKEYS", "ended")]

    async def forgotten(self, session: str) -> None:
        await self._link.execute("HDEL", "ended", session)

    async def publish(self, session: str, address: Address, session_class: SessionClass, *, old: bool) -> bool:
        idle = _ms(session_class.idle_timeout)
        reply = await self._call(PUBLISH, session, address.ip, address.port, address.uid, idle, int(old))
        return bool(reply[0] == b"OK")

    async def lost(self, session: str, uid: str) -> None:
        await self._call(LOST, session, uid)

    async def fail(self, session: str, failure: Failure, retry_in: float) -> None:
        await self._call(FAIL, session, failure.reason, failure.remedy, _ms(retry_in), failure.tries)

    async def phase(self, session: str, words: str) -> None:
        note = orjson.dumps({"kind": "session.phase", "phase": words})
        await self._call(PHASE, session, words, note)
