"""The turns of sessions in Redis: generations, claims and leases. Each step is one Lua script, so it is atomic.

The scripts are in ``scripts/``; ``common.lua`` is put in front of each and holds the generation gate, the names of the
keys and what several scripts do.  Redis Cluster is not supported: a script touches the keys of one session and four
global ones.

A lease saves double work; it is not the fence.  The fence is the attempt in SQL: a turn whose lease was lost goes on,
and its result is dropped if the message was meanwhile given to another front door.

Redis may come back empty, or older than it was.  The hash ``generation`` = {id, run_id, until} shows it: on every new
connection the founding script runs before any other command, and founds a new generation unless the present one was
founded in this very Redis process.  Every other script names the generation that its caller knows, and does nothing in
any other.  A process that is rejected in this way adopts the present generation: first it takes its leases back, then
it uses the new id.  Before ``until``, only messages run that no pod was given yet, so that every process has the time
to take its leases back.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, field
from itertools import count
from typing import Any
from uuid import uuid4

import orjson

from session_manager.activity.link import Execute, Link, load_script
from session_manager.activity.protocol import Claim, FeedNote, Gap, NoClaim, Queued, SessionGone
from session_manager.activity.resp import Arg
from session_manager.aio.tasks import cancel
from session_manager.domain.errors import ActivityUnavailable, Unavailable
from session_manager.domain.session_class import SessionClass
from session_manager.runtime.protocol import PodAddress
from session_manager.tracing.context import current

log = logging.getLogger(__name__)

MAX_ADOPTIONS = 5


def trace_of_task() -> str:
    """Return the trace of the request that this task works for, or ""."""
    trace = current.get()
    return "" if trace is None else trace.text


def milliseconds(seconds: float) -> int:
    return round(seconds * 1000)


class RedisTurns:
    """The part of TurnActivity that the path of a message needs; see RedisActivity."""

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
        self._lease_ms = milliseconds(lease)
        self._heartbeat_ms = milliseconds(heartbeat)
        self._leases = Leases(lease, self._renew, self._release)
        self._has_unfinished = has_unfinished
        self._adopting = asyncio.Lock()
        self._on_generation: list[Callable[[], None]] = []
        self.generation = b""
        self._renewing: asyncio.Task[None] | None = None
        self._name = uuid4().hex
        self._claims = count()

    async def start(self) -> None:
        """Connect. StartupFailure: wrong credentials. ActivityUnavailable: Redis cannot be reached."""
        self._link.on_connect(self._found)
        await self._link.start()
        self._renewing = asyncio.create_task(self._leases.run(), name="lease renewal")

    async def close(self) -> None:
        if self._renewing is not None:
            await cancel(self._renewing)
        await self._link.close()

    async def ping(self) -> None:
        await self._link.execute("PING")

    # -- generations ---------------------------------------------------------------------------------------------------

    def on_generation(self, listener: Callable[[], None]) -> None:
        self._on_generation.append(listener)

    async def _call(self, name: str, session: str, *args: Arg) -> list[Any]:
        """Run the script of that name in the present generation. Raises SessionGone, ActivityUnavailable."""
        if self._confirm is not None:
            await self._confirm()
        script = load_script(name)
        for _ in range(MAX_ADOPTIONS):
            generation = self.generation
            reply: list[Any] = await self._link.script(script, (generation, session, *args))
            if reply[0] == b"GENERATION":
                await self._adopt(generation)
            elif reply[0] == b"DELETED":
                raise SessionGone(session)
            else:
                return reply
        raise ActivityUnavailable

    async def _adopt(self, outdated: bytes) -> None:
        """Use the present generation from now on. Done once for all callers that were rejected with ``outdated``."""
        async with self._adopting:
            if self.generation != outdated:
                return
            present = await self._found(self._link.script, self._link.run_id)
            renewals = [(present, session, holder, self._lease_ms) for session, holder in self._leases.held()]
            await asyncio.gather(*(self._link.script(load_script("renew"), args) for args in renewals))
            self.generation = present
        for listener in self._on_generation:
            listener()

    async def _found(self, execute: Execute, run_id: str) -> bytes:
        """Found the next generation if this Redis process has none, and return the present one."""
        grace = self._lease_ms if await self._work_is_open() else 0
        present: bytes
        present, founded = await execute(load_script("found"), (uuid4().hex, run_id, grace))
        if founded:
            log.info("generation founded", extra={"event": "redis.generation", "grace_ms": grace})
        return present

    async def _work_is_open(self) -> bool:
        """Without an answer from SQL, assume that there is: to wait for one lease does no harm."""
        if self._has_unfinished is None:
            return True
        try:
            return await self._has_unfinished()
        except Unavailable:
            return True

    # -- turns ---------------------------------------------------------------------------------------------------------

    async def _renew(self, session: str, holder: str) -> bool:
        return bool((await self._call("renew", session, holder, self._lease_ms))[0] == b"OK")

    async def _release(self, session: str, holder: str) -> None:
        message_id, token = holder.split(" ")
        await self._call("abandon", session, message_id, token, 0, b"")

    async def take(
        self,
        session: str,
        message_id: str,
        seq: int,
        lowest_unfinished: int,
        session_class: SessionClass,
        user: str = "",
    ) -> Claim | Queued | Gap:
        token = self._new_token()
        since = asyncio.get_running_loop().time()
        reply = await self._call(
            "take",
            session,
            message_id,
            seq,
            lowest_unfinished,
            token,
            self._lease_ms,
            milliseconds(session_class.idle_timeout),
            session_class.name,
            user,
            trace_of_task(),
        )
        if reply[0] == b"RUN":
            return self._claimed(session, token, since, reply)
        if reply[0] == b"QUEUED":
            return Queued(reply[1], bool(reply[2]), reply[3])
        return Gap()

    async def claim(self, session: str, session_class: SessionClass) -> Claim | NoClaim:
        token = self._new_token()
        since = asyncio.get_running_loop().time()
        reply = await self._call("claim", session, token, self._lease_ms, milliseconds(session_class.idle_timeout))
        if reply[0] == b"RUN":
            return self._claimed(session, token, since, reply)
        return NoClaim(reply[0].decode())

    def _new_token(self) -> str:
        """Return a token that was never used before: the name of this activity, and a number."""
        return f"{self._name}.{next(self._claims)}"

    def _claimed(self, session: str, token: str, since: float, reply: list[Any]) -> Claim:
        _, mid, fresh, replace, ip, port, uid = reply
        message_id = mid.decode()
        self._leases.hold(session, f"{message_id} {token}", since)
        address = PodAddress(ip.decode(), int(port), uid.decode())
        return Claim(session, message_id, token, bool(fresh), bool(replace), address)

    async def add(
        self, session: str, messages: Iterable[tuple[str, int]], session_class: SessionClass, user: str = ""
    ) -> bool:
        pairs = [part for pair in messages for part in pair]
        idle = milliseconds(session_class.idle_timeout)
        reply = await self._call("add", session, idle, session_class.name, user, *pairs)
        return bool(reply[1])

    async def finish(
        self, claim: Claim, session_class: SessionClass, note: FeedNote | None, *, pod_spoiled: bool = False
    ) -> int:
        # Before and not after the call: a renewal that is sent before the reply arrives would bring the lease back.
        self.let_go(claim)
        reply = await self._call(
            "finish",
            claim.session,
            claim.message_id,
            claim.token,
            milliseconds(session_class.idle_timeout),
            milliseconds(session_class.ttl),
            claim.address.uid if pod_spoiled else b"",
            orjson.dumps(note) if note else b"",
        )
        return int(reply[1])

    async def abandon(self, claim: Claim, session_class: SessionClass, *, replace_pod: bool) -> None:
        self.let_go(claim)
        uid, idle = claim.address.uid if replace_pod else b"", milliseconds(session_class.idle_timeout)
        await self._call("abandon", claim.session, claim.message_id, claim.token, idle, uid)

    async def remove(self, session: str, message_id: str, session_class: SessionClass) -> bool:
        reply = await self._call("cancel", session, message_id, milliseconds(session_class.idle_timeout))
        return bool(reply[0] == b"RUNNING")

    def holds(self, claim: Claim) -> bool:
        return self._leases.holds(claim.session, f"{claim.message_id} {claim.token}")

    def let_go(self, claim: Claim) -> None:
        self._leases.drop(claim.session, f"{claim.message_id} {claim.token}")

    async def inbox(self, session: str) -> list[str]:
        return [mid.decode() for mid in await self._link.execute("ZRANGE", f"session:{session}:inbox", 0, -1)]


@dataclass(slots=True, eq=False)
class Leases:
    """The turn leases that this process holds, and their renewal.

    ``renew(session, holder)`` extends a lease in Redis for ``period`` seconds, and returns False if it is lost.
    ``release(session, holder)`` releases it there, if it is that holder's.
    """

    period: float
    renew: Callable[[str, str], Awaitable[bool]]
    release: Callable[[str, str], Awaitable[None]]
    _held: dict[str, tuple[str, float]] = field(init=False, default_factory=dict)

    def hold(self, session: str, holder: str, since: float) -> None:
        """``since``: the loop's time before the call to Redis, so that the lease cannot expire earlier than assumed."""
        self._held[session] = (holder, since)

    def drop(self, session: str, holder: str) -> None:
        if self._keeps(session, holder):
            del self._held[session]

    def holds(self, session: str, holder: str) -> bool:
        held = self._held.get(session)
        return held is not None and held[0] == holder and asyncio.get_running_loop().time() - held[1] < self.period

    def held(self) -> list[tuple[str, str]]:
        return [(session, holder) for session, (holder, _) in self._held.items()]

    async def run(self) -> None:
        """Renew each lease three times a period, until cancelled."""
        while True:
            await asyncio.sleep(self.period / 3)
            await asyncio.gather(*(self._renew_one(session, holder) for session, holder in self.held()))

    async def _renew_one(self, session: str, holder: str) -> None:
        if not self._keeps(session, holder):
            return
        before = asyncio.get_running_loop().time()
        try:
            ours = await self.renew(session, holder)
            if not self._keeps(session, holder):
                # Released meanwhile. If Redis ran the renewal after that, the renewal brought the lease back.
                await self.release(session, holder)
        except SessionGone:
            ours = False
        except Unavailable:
            return
        if not self._keeps(session, holder):
            return
        if ours:
            self._held[session] = (holder, before)
        else:
            del self._held[session]
            log.warning("turn lease lost", extra={"event": "turn.lease_lost", "session": session})

    def _keeps(self, session: str, holder: str) -> bool:
        held = self._held.get(session)
        return held is not None and held[0] == holder
