"""Messages over several sessions from realistic clients: by default 500 over 20 sessions.

Each session has one client that sends the next message when the last one was acknowledged, and a few that send at any
time.  A client knows both front doors.  It uses the other one if a connection is refused, and gives up on 5xx or 429.
If its connection breaks or it hangs up, the outcome is unknown: it repeats a message that has an Idempotency-Key until
it knows.
"""

from __future__ import annotations

import asyncio
import json
import random
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

import aiohttp

IN_A_ROW = 15
AT_ANY_TIME = 10
SPREAD = 4.0  # seconds over which each session's messages are sent, without delays
ANSWER_WITHIN = 70.0
REPEAT_AFTER = 0.5
KNOWN_WITHIN = 90.0
NOBODY = (aiohttp.ClientConnectorError, ConnectionRefusedError)


class Fate(StrEnum):
    """The sender's knowledge of a message."""

    ACKNOWLEDGED = "acknowledged"
    REFUSED = "refused"
    UNKNOWN = "unknown"


@dataclass(slots=True)
class Sent:
    """One message. ``at`` and ``acknowledged_at`` are on the monotonic clock; ``text`` is unique.

    ``broken``: connections that broke or that it hung up. ``unanswered``: connections that were silent for too long.
    """

    session: str
    text: str
    key: str | None
    wait: int | None
    hang_up: float | None
    at: float = 0.0
    acknowledged_at: float = 0.0
    fate: Fate = Fate.UNKNOWN
    statuses: list[int] = field(default_factory=list)
    broken: int = 0
    unanswered: int = 0
    message_id: str | None = None
    answer: dict[str, Any] = field(default_factory=dict)


class Load:
    """``doors`` returns the addresses of the front doors for clients. ``hang_up``: the share of clients that hang up.

    ``in_a_row`` and ``at_any_time``: messages to each session.
    """

    def __init__(
        self,
        doors: Callable[[], list[str]],
        sessions: list[str],
        seed: int,
        hang_up: float = 0.0,
        in_a_row: int = IN_A_ROW,
        at_any_time: int = AT_ANY_TIME,
    ) -> None:
        self._doors = doors
        self._sessions = sessions
        self._random = random.Random(seed)
        self._hang_up = hang_up
        self._in_a_row = in_a_row
        self._at_any_time = at_any_time
        self._changed = asyncio.Condition()
        self.sent: list[Sent] = []
        self.halves = 0

    @property
    def size(self) -> int:
        """Return the total number of messages."""
        return len(self._sessions) * (self._in_a_row + self._at_any_time)

    def acknowledged(self) -> int:
        return sum(each.fate is Fate.ACKNOWLEDGED for each in self.sent)

    def statuses(self) -> Counter[int]:
        return Counter(status for each in self.sent for status in each.statuses)

    async def until_acknowledged(self, number: int) -> None:
        async with self._changed:
            await self._changed.wait_for(lambda: self.acknowledged() >= number)

    async def run(self) -> None:
        """Send everything. Returns when each client knows all outcomes."""
        async with _client() as client, asyncio.TaskGroup() as clients:
            for number, session in enumerate(self._sessions):
                clients.create_task(self._write_in_a_row(client, session, f"{number:02}-row"))
                for single in range(self._at_any_time):
                    clients.create_task(self._write_once(client, session, f"{number:02}-any-{single:02}"))
                if self._hang_up:
                    clients.create_task(self._send_half(session, f"{number:02}-half"))

    async def repeat(self, number: int) -> list[str]:
        """Send some acknowledged messages again with the same keys, and return the answers that differ."""
        keyed = [sent for sent in self.sent if sent.key and sent.fate is Fate.ACKNOWLEDGED]
        chosen = self._random.sample(keyed, min(number, len(keyed)))
        again = [Sent(sent.session, sent.text, sent.key, None, None) for sent in chosen]
        async with _client() as client:
            await asyncio.gather(*(self._try(client, sent, None) for sent in again))
        return [
            f"{before.text}: repeated, it was answered {after.statuses} {after.answer}, not as {before.message_id}"
            for before, after in zip(chosen, again, strict=True)
            if (after.statuses, after.message_id) != ([200], before.message_id)
        ]

    async def once_more(self) -> list[str]:
        """Send one more message to each session, which wakes it, and return those without a result."""
        last = [Sent(session, f"{number:02}-last", None, 60, None) for number, session in enumerate(self._sessions)]
        async with _client() as client:
            await asyncio.gather(*(self._try(client, sent, None) for sent in last))
        return [
            f"{sent.text}: after it all answered {sent.statuses} {sent.answer}"
            for sent in last
            if sent.statuses != [200]
        ]

    async def _write_in_a_row(self, client: aiohttp.ClientSession, session: str, name: str) -> None:
        for number in range(self._in_a_row):
            sent = self._message(session, f"{name}-{number:02}")
            await asyncio.sleep(self._random.uniform(0, 2 * SPREAD / self._in_a_row))
            await self._send(client, sent)

    async def _write_once(self, client: aiohttp.ClientSession, session: str, text: str) -> None:
        sent = self._message(session, text)
        await asyncio.sleep(self._random.uniform(0, SPREAD))
        await self._send(client, sent)

    def _message(self, session: str, text: str) -> Sent:
        hang_up = self._random.choice([0.001, 0.01, 0.1, 0.5]) if self._random.random() < self._hang_up else None
        key = text if hang_up or self._random.random() < 0.7 else None
        return Sent(session, text, key, self._random.choice([None, 0, 0, 20]), hang_up)

    async def _send(self, client: aiohttp.ClientSession, sent: Sent) -> None:
        sent.at = time.monotonic()
        self.sent.append(sent)
        await self._try(client, sent, sent.hang_up)
        while sent.fate is Fate.UNKNOWN and sent.key and time.monotonic() < sent.at + KNOWN_WITHIN:
            await asyncio.sleep(REPEAT_AFTER)
            await self._try(client, sent, None)
        async with self._changed:
            self._changed.notify_all()

    async def _try(self, client: aiohttp.ClientSession, sent: Sent, hang_up: float | None) -> None:
        """Make one request. A refused connection is not counted as a request."""
        doors = self._doors()
        self._random.shuffle(doors)
        for door in doors:
            with suppress(*NOBODY):
                await self._ask(client, door, sent, hang_up)
                return
        if not sent.broken:
            sent.fate = Fate.REFUSED

    async def _ask(self, client: aiohttp.ClientSession, door: str, sent: Sent, hang_up: float | None) -> None:
        headers = {"Idempotency-Key": sent.key} if sent.key else {}
        if sent.wait is not None:
            headers["Prefer"] = f"wait={sent.wait}"
        url = f"{door}/session/{sent.session}/chat"
        try:
            async with asyncio.timeout(hang_up), client.post(url, json={"message": sent.text}, headers=headers) as got:
                self._understand(sent, got.status, await got.read())
        except NOBODY:
            raise
        except (aiohttp.ClientError, TimeoutError) as error:
            sent.broken += 1
            sent.unanswered += isinstance(error, TimeoutError) and hang_up is None

    @staticmethod
    def _understand(sent: Sent, status: int, body: bytes) -> None:
        sent.statuses.append(status)
        if status in {200, 202}:
            sent.fate, sent.acknowledged_at = Fate.ACKNOWLEDGED, time.monotonic()
            sent.answer = json.loads(body)
            sent.message_id = sent.answer["message_id"]
        elif not sent.broken:
            sent.fate = Fate.REFUSED

    async def _send_half(self, session: str, text: str) -> None:
        """Send an incomplete request, which must not become a message."""
        await asyncio.sleep(self._random.uniform(0, SPREAD))
        sent = Sent(session, text, None, None, 0.0, time.monotonic(), fate=Fate.REFUSED)
        head = f"POST /session/{session}/chat HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 100\r\n\r\n"
        host, port = self._doors()[0].removeprefix("http://").split(":")
        _, writer = await asyncio.open_connection(host, int(port))
        writer.write(f'{head}{{"message": "{text}"'.encode())
        await writer.drain()
        writer.close()
        await writer.wait_closed()
        self.sent.append(sent)
        self.halves += 1


def _client() -> aiohttp.ClientSession:
    timeout = aiohttp.ClientTimeout(total=ANSWER_WITHIN)
    return aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0), timeout=timeout)
