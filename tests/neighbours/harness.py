"""A victim who chats, and an attack beside it: a real front door, Redis, pods and sockets.

``suffer`` chats for a while, runs the attack while the chat goes on, and waits until the attack's memory is free. It
prints what the victim, a supervisor and the machine saw. Times are printed, and asserted only with bounds that a frozen
event loop breaks: other work on the machine makes them longer.
"""

from __future__ import annotations

import asyncio
import math
import pickle
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from statistics import quantiles
from typing import Any, TypeAlias

import aiohttp
import psutil

from tests.faults.doors import Door
from tests.servers.redis import RedisServer
from tests.waiting import until

CLASSES = Path(__file__).with_name("classes.yaml")
ROOT = Path(__file__).parents[2]
KEYS = {"ada": "key-of-the-victim-ada", "eve": "key-of-the-attacker-eve", "eva": "key-of-her-friend-eva"}
VICTIM = "ada"
FRIEND = "eva"  # whose work fills the caches of the front door before an attack
ADDRESSES = {"ada": "127.0.0.1", "eve": "127.0.0.2", "eva": "127.0.0.3"}
NOBODY = "127.0.0.4"  # the address of attackers without a key
MB = 2**20

QUIET = 4.0  # seconds of chat before the attack
PAUSE = 0.05  # seconds between two messages of the victim, and between two looks at /livez
SETTLED = 30.0  # seconds in which the memory of an attack must be free again
SAME = 1.10  # the memory afterwards, as a share of that before
FROZEN = 5.0  # seconds; an answer of /livez that takes longer means that the event loop stood still
LOST = frozenset(
    {"redis.away", "redis.moved", "redis.generation", "turn.lease_lost", "turn.pod_died", "scaler.failed", "loop.ended"}
)
"""Events of the log that no attack may cause: a lost link, a lost lease, a heartbeat that came too late."""

Attack: TypeAlias = Callable[["Town"], Awaitable[None]]


@dataclass(eq=False)
class Town:
    """A front door and its callers. ``session`` is the victim's. ``peak``: the most memory that it had, in bytes.

    An attack gets one in its own process, with the same front door and with clients of its own.
    """

    door: Door
    clients: dict[str, aiohttp.ClientSession]
    pid: int
    session: str = ""
    sent: list[str] = field(default_factory=list)
    chats: list[float] = field(default_factory=list)
    looks: list[float] = field(default_factory=list)
    peak: int = 0
    lines_before: int = 0
    over: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def process(self) -> psutil.Process:
        return psutil.Process(self.pid)

    @property
    def logged_since(self) -> list[dict[str, Any]]:
        """The lines of the log since the attack began."""
        return list(self.door.logged())[self.lines_before :]

    @property
    def memory(self) -> int:
        """The resident memory of the front door in bytes."""
        return int(self.process.memory_info().rss)

    async def call(self, caller: str, method: str, path: str, **options: Any) -> tuple[int, Any]:
        """Send a request with the key of ``caller`` from its address. Return the status and the JSON."""
        async with self.clients[caller].request(method, self.door.url + path, **options) as response:
            return response.status, await response.json(content_type=None)

    async def create(self, caller: str, class_name: str = "talker") -> str:
        status, body = await self.call(caller, "POST", "/session/create", json={"user_id": caller, "class": class_name})
        assert status == 201, body
        return str(body["uuid"])

    async def chat(self, caller: str, session: str, message: str) -> str:
        """Send a message, wait for the turn, and return the reply."""
        wait = {"Prefer": "wait=60"}
        path = f"/session/{session}/chat"
        status, body = await self.call(caller, "POST", path, json={"message": message}, headers=wait)
        assert (status, body["status"]) == (200, "processed"), body
        return str(body["pod_response"]["reply"])

    async def connect(self, address: str = NOBODY) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """Open a raw connection to the front door from one of this machine's addresses."""
        return await asyncio.open_connection("127.0.0.1", self.door.port, local_addr=(address, 0))

    def head(self, caller: str, line: str, **headers: str) -> bytes:
        """Return the head of a request with the key of ``caller``, or without one for nobody."""
        given = {"Host": "localhost", **({"X-API-Key": KEYS[caller]} if caller in KEYS else {}), **headers}
        return (f"{line} HTTP/1.1\r\n" + "".join(f"{n}: {v}\r\n" for n, v in given.items()) + "\r\n").encode()

    # -- the victim and its witnesses ----------------------------------------------------------------------------------

    async def keep_chatting(self) -> None:
        while not self.over.is_set():
            message = f"message {len(self.sent)}"
            self.sent.append(message)
            began = time.perf_counter()
            assert await self.chat(VICTIM, self.session, message) == f"heard {message}"
            self.chats.append(time.perf_counter() - began)
            await asyncio.sleep(PAUSE)

    async def keep_looking(self) -> None:
        """Ask /livez as a supervisor does, on a new connection each time, and note the memory."""
        while not self.over.is_set():
            began = time.perf_counter()
            async with aiohttp.ClientSession() as client, client.get(f"{self.door.url}/livez") as response:
                assert response.status == 200, response.status
            self.looks.append(time.perf_counter() - began)
            self.peak = max(self.peak, self.memory)
            await asyncio.sleep(PAUSE)

    async def nothing_lost(self) -> None:
        """Assert that every message of the victim has its reply, in order, and that the log shows no damage."""
        replies: list[str] = []
        cursor: str | None = ""
        while cursor is not None:
            path = f"/session/{self.session}/messages?limit=500" + (f"&cursor={cursor}" if cursor else "")
            status, page = await self.call(VICTIM, "GET", path)
            assert status == 200, page
            replies += [each["pod_response"]["reply"] for each in page["messages"]]
            cursor = page["next_cursor"]
        assert replies == [f"heard {each}" for each in self.sent]
        damage = [each for each in self.logged_since if each["event"] in LOST]
        assert not damage, damage
        bugs = self.door.bugs()
        assert not bugs, bugs


@asynccontextmanager
async def town(folder: Path, redis: RedisServer, **settings: str) -> AsyncIterator[Town]:
    """A front door with the default limits, except that the victim may chat as often as it likes."""
    facts = {
        "REDIS_URL": redis.url,
        "DATA_DIR": str(folder / "data"),
        "SESSION_CLASSES": str(CLASSES),
        "SESSION_API_KEYS": ",".join(f"{name}@{name}:{key}" for name, key in KEYS.items()),
        **{f"RATE_LIMIT_{name}": rate for name, rate in DEFAULT_RATES.items()},
        **settings,
    }
    door = Door("door", folder, facts)
    await door.start()
    clients = {name: _client(name) for name in KEYS}
    try:
        made = Town(door, clients, door.pid)
        made.session = await made.create(VICTIM)
        await made.chat(VICTIM, made.session, "are you awake?")
        made.sent.append("are you awake?")
        yield made
    finally:
        for client in clients.values():
            await client.close()
        door.terminate()
        await door.gone()


DEFAULT_RATES = {
    "CREATE": "100/minute",
    "WAKE": "50/minute",
    "CHAT": "100000/minute",
    "DELETE": "50/minute",
    "DEFAULT": "3000/minute",
}


def _client(caller: str) -> aiohttp.ClientSession:
    connector = aiohttp.TCPConnector(local_addr=(ADDRESSES[caller], 0), limit=0)
    return aiohttp.ClientSession(connector=connector, headers={"X-API-Key": KEYS[caller]})


async def suffer(town: Town, attack: Attack, most: float = math.inf, kept: int = 0) -> None:
    """Run the attack beside the victim, and assert that it harmed nobody.

    ``most``: the bytes by which the front door may grow meanwhile. ``kept``: those that caches may keep afterwards.
    """
    await _burst(town)
    witnesses = [asyncio.create_task(town.keep_chatting()), asyncio.create_task(town.keep_looking())]
    try:
        await asyncio.sleep(QUIET)
        before, quiet_chats, quiet_looks = town.memory, town.chats, town.looks
        town.chats, town.looks, town.peak = [], [], 0
        town.lines_before = len(list(town.door.logged()))
        await _elsewhere(town, attack)
        during, chats, looks = town.peak, town.chats, town.looks
        with suppress(AssertionError):
            await until(lambda: town.memory <= before * SAME + kept, SETTLED)
        after = town.memory
    finally:
        town.over.set()
        await asyncio.gather(*witnesses)
    print(f"\n{attack.__name__.replace('_', ' ')}")
    _print_times("victim, quiet", quiet_chats)
    _print_times("victim, attacked", chats)
    _print_times("/livez, quiet", quiet_looks)
    _print_times("/livez, attacked", looks)
    print(f"  memory: {before / MB:.0f} MB before, {during / MB:.0f} at most, {after / MB:.0f} after")
    assert max(looks) < FROZEN
    assert during - before <= most
    assert after <= before * SAME + kept
    await town.nothing_lost()


async def _elsewhere(town: Town, attack: Attack) -> None:
    """Run the attack in a process of its own, so that its work does not delay what the victim sees."""
    where = (str(town.door.folder), str(town.door.port), str(town.pid), town.session)
    command = (sys.executable, "-m", "tests.neighbours.harness", pickle.dumps(attack).hex(), *where)
    attacker = await asyncio.create_subprocess_exec(*command, cwd=ROOT)
    try:
        assert await attacker.wait() == 0, f"{attack.__name__} failed; its traceback is above"
    finally:
        if attacker.returncode is None:
            attacker.kill()
            await attacker.wait()


async def _attack(pickled: str, folder: str, port: str, pid: str, session: str) -> None:
    door = Door("door", Path(folder), {}, int(port))
    town = Town(door, {name: _client(name) for name in KEYS}, int(pid), session)
    try:
        await pickle.loads(bytes.fromhex(pickled))(town)
    finally:
        for client in town.clients.values():
            await client.close()


async def _burst(town: Town) -> None:
    """Let the front door do every kind of work once: caches of the database and of Python fill, and stay."""
    session = await town.create(FRIEND)
    for _ in range(3):
        await town.chat(FRIEND, session, "m" * 1_000_000)
    await asyncio.gather(*(town.call(FRIEND, "GET", f"/session/{session}/messages") for _ in range(16)))
    writers = [(await town.connect(ADDRESSES[FRIEND]))[1] for _ in range(500)]
    for each in writers:
        each.write(town.head(FRIEND, f"GET /session/{town.session}"))
    await asyncio.sleep(1.0)
    for each in writers:
        each.transport.abort()


def _print_times(who: str, seconds: list[float]) -> None:
    cuts = quantiles(seconds, n=100) if len(seconds) > 1 else [0.0] * 99
    print(f"  {who:18} {len(seconds):4} answers, p50 {cuts[49] * 1000:6.1f} ms, p99 {cuts[98] * 1000:6.1f} ms")


if __name__ == "__main__":
    asyncio.run(_attack(*sys.argv[1:]))
