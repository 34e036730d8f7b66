"""The client against a real Redis: order, scripts, values."""

from __future__ import annotations

import asyncio
import random

import pytest
import uvloop

from session_manager.activity.link import Link, Script, load_script
from session_manager.activity.resp import RedisError
from session_manager.domain.errors import ActivityUnavailable, StartupFailure
from tests.servers.redis import RedisServer, connected

DOUBLE = Script("double", "return ARGV[1] * 2")
KEYED = Script("keyed", "return {KEYS[1], KEYS[2], ARGV[1]}")


async def test_every_caller_gets_its_own_reply_while_others_are_cancelled(link: Link) -> None:
    chance = random.Random(7)

    async def caller(number: int) -> bool:
        for step in range(20):
            word = f"{number}:{step}"
            assert await link.execute("ECHO", word) == word.encode()
            await asyncio.sleep(0)
        return True

    callers = [asyncio.create_task(caller(number)) for number in range(64)]
    hung_up: set[asyncio.Task[bool]] = set()
    while not all(task.done() for task in callers):
        if len(hung_up) < 32:
            hung_up.add(victim := chance.choice(callers))
            victim.cancel()
        await asyncio.sleep(0)
    results = await asyncio.gather(*callers, return_exceptions=True)
    assert [result for result in results if not isinstance(result, asyncio.CancelledError)] == [True] * 32


def test_the_same_on_uvloop(redis_url: str) -> None:
    async def echo() -> list[bytes]:
        link = Link.from_url(redis_url)
        await link.start()
        replies = await asyncio.gather(*(link.execute("ECHO", n) for n in range(100)))
        await link.close()
        return replies

    assert uvloop.run(echo()) == [str(n).encode() for n in range(100)]


async def test_values(link: Link) -> None:
    big = random.Random(1).randbytes(20_000_000)
    await link.execute("SET", "big", big)
    assert await link.execute("GET", "big") == big
    await link.execute("HSET", "h", "é", 1.5, b"\x00\xff", -3)
    assert await link.execute("HGETALL", "h") == ["é".encode(), b"1.5", b"\x00\xff", b"-3"]
    assert await link.execute("GET", "nothing") is None
    assert await link.execute("LRANGE", "nothing", 0, -1) == []


async def test_an_error_in_a_pipeline_reaches_only_its_caller(link: Link) -> None:
    commands = [("SET", "word", "x"), ("INCR", "word"), ("GET", "word")]
    replies = await asyncio.gather(*(link.execute(*command) for command in commands), return_exceptions=True)
    assert replies[::2] == [b"OK", b"x"]
    assert isinstance(replies[1], RedisError)
    assert replies[1].code == "ERR"


@pytest.mark.usefixtures("real_redis_only")
async def test_a_full_redis_is_unavailable(link: Link) -> None:
    await link.execute("CONFIG", "SET", "maxmemory", 1)
    try:
        with pytest.raises(ActivityUnavailable):
            await link.execute("SET", "a", "b")
        with pytest.raises(ActivityUnavailable):
            await link.script(Script("set", "return redis.call('SET', 'a', 'b')"))
    finally:
        await link.execute("CONFIG", "SET", "maxmemory", 0)


@pytest.mark.usefixtures("real_redis_only")
async def test_a_demoted_redis_is_connected_to_again(link: Link, redis_server: RedisServer) -> None:
    before = await link.execute("CLIENT", "ID")
    with redis_server.client() as client:
        client.replicaof("127.0.0.1", 1)
        try:
            with pytest.raises(ActivityUnavailable):
                await link.execute("SET", "a", "b")
            assert await link.execute("CLIENT", "ID") != before
        finally:
            client.replicaof("NO", "ONE")


async def test_missing_scripts_are_loaded(link: Link) -> None:
    assert await link.script(DOUBLE, (21,)) == 42
    assert await link.script(KEYED, (b"x",), keys=("a", "b")) == [b"a", b"b", b"x"]
    await link.execute("SCRIPT", "FLUSH")
    assert await asyncio.gather(*(link.script(DOUBLE, (n,)) for n in range(10))) == list(range(0, 20, 2))
    assert await link.execute("SCRIPT", "EXISTS", DOUBLE.sha, KEYED.sha) == [1, 0]


async def test_an_error_in_a_script_is_an_error(link: Link) -> None:
    with pytest.raises(RedisError):
        await link.script(Script("broken", "return redis.call('INCR')"))
    with pytest.raises(RedisError):
        await link.script(Script("unreadable", "this is not Lua"))


def test_package_scripts_come_after_their_prelude() -> None:
    script = load_script("take")
    assert script is load_script("take")
    assert script.name == "take"
    assert script.source.startswith(load_script("claim").source[:100])
    assert len(script.sha) == 40
    assert script.source not in repr(script)


async def test_a_connection_is_prepared_before_it_is_used(redis_url: str) -> None:
    link = Link.from_url(redis_url)
    seen = []

    async def prepare(execute, run_id: str) -> None:
        seen.append((run_id, await execute(Script("get", "return redis.call('INCR', KEYS[1])"), keys=("n",))))

    link.on_connect(prepare)
    link.on_connect(prepare)
    await link.start()
    info = await link.execute("INFO", "server")
    assert f"run_id:{link.run_id}\r\n".encode() in info
    assert seen == [(link.run_id, 1)]
    await link.close()


async def test_a_closed_link_fails_at_once(redis_url: str) -> None:
    link = Link.from_url(redis_url, timeout=3600)
    with pytest.raises(ActivityUnavailable):
        await link.execute("PING")
    await link.start()
    waiting = asyncio.create_task(link.execute("BLPOP", "nothing", 0))
    await asyncio.sleep(0)
    await link.close()
    with pytest.raises(ActivityUnavailable):
        await waiting
    with pytest.raises(ActivityUnavailable):
        await link.execute("PING")
    await link.start()
    assert await link.execute("PING") == b"PONG"
    await link.close()


async def test_a_failing_preparation_leaves_nothing_running(redis_url: str) -> None:
    link = Link.from_url(redis_url)

    async def prepare(execute, run_id: str) -> None:
        raise StartupFailure("no")

    link.on_connect(prepare)
    with pytest.raises(StartupFailure):
        await link.start()
    assert not connected(link)
