"""The adapter of both activity ports on Redis: whole sessions and their pods. The turns are in ``redis_turns``."""

from __future__ import annotations

from collections.abc import Callable

import orjson

from session_manager.activity.link import load_script
from session_manager.activity.protocol import Desire, Fenced, Wakefulness
from session_manager.activity.redis_turns import RedisTurns, milliseconds
from session_manager.domain.session import Failure, Hot
from session_manager.domain.session_class import SessionClass
from session_manager.domain.times import Micros
from session_manager.runtime.protocol import PodAddress

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


class RedisActivity(RedisTurns):
    """TurnActivity and ScalerActivity. ``lease`` and ``heartbeat`` in seconds.

    ``has_unfinished`` asks SQL whether an accepted message has no result; None for a process without SQL.
    ``confirm`` raises ActivityUnavailable if this process must not decide anything.
    """

    # -- wake, sleep, end ----------------------------------------------------------------------------------------------

    async def wake(self, session: str, session_class: SessionClass, keep_awake: float = 0.0) -> bool:
        idle, ttl = milliseconds(session_class.idle_timeout), milliseconds(session_class.ttl)
        reply = await self._call(WAKE, session, idle, milliseconds(keep_awake), session_class.name, ttl)
        return bool(reply[0] == b"AWAKE")

    async def fence(
        self, session: str, session_class: SessionClass, *, force: bool = False, suspend: bool = False
    ) -> Fenced:
        how = 2 if suspend else int(force)
        reply = await self._call(FENCE, session, how, milliseconds(session_class.idle_timeout))
        return Fenced(reply[0].decode())

    async def sleep_when_idle(self, session: str) -> None:
        await self._call(SLEEP_WHEN_IDLE, session)

    async def delete(self, session: str) -> None:
        await self._call(DELETE, session, DELETED_MARK_MS, orjson.dumps({"kind": "session.deleted"}))

    async def expire(self, session: str) -> bool:
        return bool((await self._call(EXPIRE, session))[0] == b"OK")

    async def ended(self, session: str) -> None:
        await self._call(ENDED, session)

    # -- looking -------------------------------------------------------------------------------------------------------

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

    # -- announcements -------------------------------------------------------------------------------------------------

    async def next_ready(self) -> str | None:
        _, session = await self._call(READY, "", self._lease_ms)
        return session.decode() or None

    async def attended(self, session: str) -> None:
        await self._link.execute("ZREM", "ready:taken", session)

    async def on_ready(self, listener: Callable[[], None]) -> None:
        await self._link.subscribe("ready", lambda _: listener(), listener)

    async def on_gone(self, listener: Callable[[str], None]) -> None:
        await self._link.subscribe("gone", lambda uid: listener(uid.decode()))

    async def on_scale(self, listener: Callable[[str], None]) -> None:
        await self._link.subscribe("scale", lambda session: listener(session.decode()))

    # -- scaling -------------------------------------------------------------------------------------------------------

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

    async def publish(self, session: str, address: PodAddress, session_class: SessionClass, *, old: bool) -> bool:
        idle = milliseconds(session_class.idle_timeout)
        reply = await self._call(PUBLISH, session, address.ip, address.port, address.uid, idle, int(old))
        return bool(reply[0] == b"OK")

    async def lost(self, session: str, uid: str) -> None:
        await self._call(LOST, session, uid)

    async def fail(self, session: str, failure: Failure, retry_in: float) -> None:
        await self._call(FAIL, session, failure.reason, failure.remedy, milliseconds(retry_in), failure.tries)

    async def phase(self, session: str, words: str) -> None:
        note = orjson.dumps({"kind": "session.phase", "phase": words})
        await self._call(PHASE, session, words, note)
