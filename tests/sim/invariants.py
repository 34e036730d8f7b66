"""The invariants that hold whatever happens."""

from __future__ import annotations

import json
import sqlite3
from dataclasses import dataclass
from typing import Any

from tests.sim.clients import Clients
from tests.sim.clock import VirtualLoop
from tests.sim.pods import Delivery, Mood
from tests.sim.processes import TTL, TURN, Surroundings


@dataclass(frozen=True, slots=True)
class Row:
    """A message in SQL."""

    id: str
    session: str
    seq: int
    attempt: int
    deaths: int
    accepted_at: int
    finished_at: int | None
    status: str | None
    response: str | None
    error: str | None

    @property
    def result(self) -> tuple[object, ...]:
        return (self.finished_at, self.status, self.response, self.error)


_ROWS = """
SELECT id, session, seq, attempt, deaths, accepted_at, finished_at, status, response, error
FROM message ORDER BY session, seq
"""


class Facts:
    """Reads SQL at this instant."""

    def __init__(self, connection: sqlite3.Connection, loop: VirtualLoop) -> None:
        self._connection = connection
        self._loop = loop

    def _ids(self, sql: str) -> list[str]:
        return [row[0] for row in self._connection.execute(sql)]

    def messages(self) -> dict[str, Row]:
        return {row[0]: Row(*row) for row in self._connection.execute(_ROWS)}

    def message(self, message_id: str) -> Row | None:
        return self.messages().get(message_id)

    def unfinished(self) -> list[str]:
        return self._ids("SELECT id FROM message WHERE finished_at IS NULL ORDER BY session, seq")

    def deleted(self, session: str) -> bool:
        return session in self._ids("SELECT uuid FROM session WHERE deleted_at IS NOT NULL")

    def present(self) -> list[str]:
        return self._ids("SELECT uuid FROM session WHERE deleted_at IS NULL")

    def failed(self) -> list[str]:
        return self._ids("SELECT uuid FROM session WHERE failed_at IS NOT NULL")

    def woken(self) -> list[str]:
        return self._ids("SELECT uuid FROM session WHERE woken_at IS NOT NULL")

    def unpurged(self) -> list[str]:
        return self._ids("SELECT uuid FROM session WHERE deleted_at IS NOT NULL AND purged_at IS NULL")

    def unexpired(self) -> list[str]:
        return self._ids("SELECT uuid FROM session WHERE deleted_at IS NULL AND expired_at IS NULL")


class Invariants:
    def __init__(self, around: Surroundings, facts: Facts, clients: Clients) -> None:
        self._around = around
        self._redis = around.redis
        self._facts = facts
        self._clients = clients
        self._seen: dict[str, Row] = {}
        self._retired: set[str] = set()
        self._claims: dict[tuple[str, int], str] = {}
        self._keys: dict[tuple[str, str], str] = {}
        around.redis.watcher = self._watch
        around.machines.on_delivery = self._on_delivery

    def _fail(self, complaint: str) -> None:
        self._around.failures.append(f"{self._around.loop.time():.4f}: {complaint}")

    # -- at the instant it happens -----------------------------------------------------------------------------------

    def _watch(self, name: str, args: tuple[bytes, ...], reply: Any) -> None:
        """Check after every command and script."""
        if name in ("flushall",) or len(args) < 2:
            return
        session = args[1].decode()
        retire, pod = self._redis.look("HMGET", f"session:{session}", "retire", "pod")
        if retire:
            self._retired.add(retire.decode())
        if pod and pod.decode() in self._retired:
            self._fail(f"{name}: {pod.decode()} was retired and is addressed again")
        if name == "fence" and reply[0] == b"PASSED":
            self._at_sleep(session)

    def forget_retired(self) -> None:
        """Redis lost its memory, including the retired pods."""
        self._retired.clear()

    def _at_sleep(self, session: str) -> None:
        for delivery in self._around.machines.deliveries:
            if delivery.session == session and delivery.ended is None and self._is_open(delivery):
                self._fail(f"put to sleep while {delivery} runs")

    def _is_open(self, delivery: Delivery) -> bool:
        row = self._facts.message(delivery.message_id)
        return row is not None and row.finished_at is None and row.attempt == delivery.attempt

    def _on_delivery(self, delivery: Delivery) -> None:
        key = (delivery.message_id, delivery.attempt)
        if self._claims.setdefault(key, delivery.claim) != delivery.claim:
            self._fail(f"two claims of one attempt reached pods: {delivery}")
        rows = self._facts.messages()
        row = rows.get(delivery.message_id)
        if row is None:
            return
        for each in rows.values():
            if each.session == row.session and each.seq < row.seq and each.finished_at is None:
                self._fail(f"{row.id} overtakes {each.id}")

    # -- after every step --------------------------------------------------------------------------------------------

    def check(self) -> None:
        rows = self._facts.messages()
        for row in rows.values():
            self._check_row(row)
        for id_, seen in self._seen.items():
            if id_ not in rows and not self._facts.deleted(seen.session):
                self._fail(f"{id_} is lost")
        self._seen = rows
        self._check_calls(rows)

    def _check_row(self, row: Row) -> None:
        before = self._seen.get(row.id)
        if before is not None:
            if row.attempt < before.attempt or row.deaths < before.deaths:
                self._fail(f"attempts go backwards: {before} {row}")
            if before.finished_at is not None and before.result != row.result:
                self._fail(f"a result changed: {before} {row}")
        if row.status == "processed" and (before is None or before.status is None):
            words = json.loads(row.response or "{}")
            if (words["message_id"], words["attempt"]) != (row.id, row.attempt):
                self._fail(f"a result of another attempt: {row}")
        if row.status == "failed" and (before is None or before.status is None):
            self._check_reason(row)

    def _check_reason(self, row: Row) -> None:
        """Check that a message fails only for a reason that occurred."""
        mine = [each for each in self._around.machines.deliveries if each.message_id == row.id]
        how = [each.how for each in mine]
        error, now = row.error or "", self._around.loop.unix_micros()
        reasons = {
            "cancelled": row.id in self._clients.cancelled,
            "The session was deleted": self._facts.deleted(row.session),
            "not processed within": now - row.accepted_at >= TTL * 1_000_000,
            "the pod died 3 times": sum(each in ("PodDied", "PodMisdirected") for each in how) >= 3,
            "the turn took longer": any((each.ended or 1e9) - each.began >= TURN * 0.99 for each in mine)
            or Mood.BUSY in how
            or "PodBusy" in how,
            "the pod answered 503 3 times": how.count("PodBusy") >= 3,
            "the pod answered 500": "PodRejected" in how,
        }
        if not any(error.startswith(reason) and held for reason, held in reasons.items()):
            self._fail(f"failed without a reason: {row} {mine}")

    def _check_calls(self, rows: dict[str, Row]) -> None:
        for call in self._clients.calls:
            if call.message_id is None:
                continue
            if call.message_id not in rows and not self._facts.deleted(call.session):
                self._fail(f"the accepted {call.message_id} is not in SQL")
            if (
                call.key is not None
                and self._keys.setdefault((call.session, call.key), call.message_id) != call.message_id
            ):
                self._fail(f"one key, two messages: {call}")
            row = rows.get(call.message_id)
            if row is not None and call.outcome is not None and call.outcome.status != row.status:
                self._fail(f"answered {call.outcome}, recorded {row}")

    # -- when all is quiet -------------------------------------------------------------------------------------------

    def hot_state(self) -> dict[str, object]:
        """Return the remaining work in Redis by key. Empty when all is quiet."""
        state = {}
        for key in sorted(self._redis.look("KEYS", "*")):
            name = key.decode()
            if name.endswith((":inbox", ":turn", ":awake")) or name in ("awake", "ready"):
                state[name] = self._value(name)
        finished = [name for name, value in state.items() if name.endswith(":inbox") and self._finished(value)]
        if "awake" not in state:
            # Leftover entries are harmless: the next wake removes them, or the expiry.
            for name in finished:
                del state[name]
        return state

    def _value(self, key: str) -> Any:
        kind = self._redis.look("TYPE", key)
        reader = {b"zset": ("ZRANGE", key, 0, -1), b"list": ("LRANGE", key, 0, -1)}.get(kind, ("GET", key))
        return self._redis.look(*reader)

    def _stale(self, field: str) -> bool:
        return field.startswith("fresh:") and not self._finished([field.removeprefix("fresh:").encode()])

    def _finished(self, ids: list[bytes]) -> bool:
        rows = [self._facts.message(each.decode()) for each in ids]
        return all(row is None or row.finished_at is not None for row in rows)

    def at_rest(self, *, expired: bool = False) -> None:
        for key in self._redis.look("KEYS", "session:*"):
            name = key.decode()
            fields = {each.decode() for each in self._redis.look("HKEYS", key)} if name.count(":") == 1 else set()
            if expired and self._redis.look("PTTL", key) < 0:
                self._fail(f"{name} outlives its session: {fields}")
            if any(field in ("pod", "ip", "sleep") or self._stale(field) for field in fields):
                self._fail(f"{name} keeps {fields}")
        left = self._around.machines.files - set(self._facts.present())
        if left:
            self._fail(f"files of deleted sessions are left: {left}")
        assert not self._around.failures, "\n".join(self._around.failures)
