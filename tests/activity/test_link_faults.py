"""The client while Redis dies, hangs, comes back, or comes back as another server."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncIterator

import pytest

from session_manager.activity.link import Link
from session_manager.domain.errors import ActivityUnavailable
from tests.servers.redis import RedisServer, connected
from tests.waiting import until

TIMEOUT = 0.3  # short, so that a silent server is noticed soon
PATIENT = 30.0  # long, so that a caller outlasts a restart


@pytest.fixture
async def impatient(own_redis: RedisServer) -> AsyncIterator[Link]:
    link = Link.from_url(own_redis.url, TIMEOUT)
    await link.start()
    yield link
    await link.close()


@pytest.fixture
async def patient(own_redis: RedisServer) -> AsyncIterator[Link]:
    link = Link.from_url(own_redis.url, PATIENT)
    await link.start()
    yield link
    await link.close()


async def issued(*tasks: asyncio.Task[object]) -> None:
    """Let the tasks run until they wait."""
    for _ in range(3):
        await asyncio.sleep(0)


async def test_a_killed_redis_fails_commands_in_flight_and_serves_waiting_callers(
    patient: Link, own_redis: RedisServer
) -> None:
    seen: list[str] = []

    async def prepare(execute: object, run_id: str) -> None:
        seen.append(run_id)

    patient.on_connect(prepare)
    first_life = patient.run_id
    in_flight = [asyncio.create_task(patient.execute("BLPOP", "nothing", 0)) for _ in range(3)]
    await issued(*in_flight)
    own_redis.kill()
    for outcome in await asyncio.gather(*in_flight, return_exceptions=True):
        assert isinstance(outcome, ActivityUnavailable)
    waiting = [asyncio.create_task(patient.execute("ECHO", n)) for n in range(3)]
    await issued(*waiting)
    own_redis.start()
    assert await asyncio.gather(*waiting) == [b"0", b"1", b"2"]
    assert patient.run_id != first_life
    assert seen == [patient.run_id]


async def test_a_command_is_never_sent_twice(patient: Link, own_redis: RedisServer) -> None:
    own_redis.signal(signal.SIGSTOP)
    lost = [asyncio.create_task(patient.execute("INCR", "n")) for _ in range(10)]
    await issued(*lost)
    own_redis.kill()
    assert all(
        isinstance(outcome, ActivityUnavailable) for outcome in await asyncio.gather(*lost, return_exceptions=True)
    )
    own_redis.start()
    assert await patient.execute("INCR", "n") == 1


async def test_a_redis_that_stays_unavailable(impatient: Link, own_redis: RedisServer) -> None:
    own_redis.kill()
    await until(lambda: not connected(impatient))
    callers = [impatient.execute("PING") for _ in range(50)]
    outcomes = await asyncio.gather(*callers, return_exceptions=True)
    assert all(isinstance(outcome, ActivityUnavailable) for outcome in outcomes)
    own_redis.start()
    await until(lambda: connected(impatient))
    assert await impatient.execute("PING") == b"PONG"


async def test_a_silent_redis_is_unavailable_until_it_answers_again(impatient: Link, own_redis: RedisServer) -> None:
    assert await impatient.execute("SET", "a", 1) == b"OK"
    own_redis.signal(signal.SIGSTOP)
    commands = [impatient.execute("GET", "a") for _ in range(20)]
    outcomes = await asyncio.gather(*commands, return_exceptions=True)
    assert all(isinstance(outcome, ActivityUnavailable) for outcome in outcomes)
    assert not connected(impatient)
    own_redis.signal(signal.SIGCONT)
    await until(lambda: connected(impatient))
    assert await impatient.execute("GET", "a") == b"1"


async def test_an_idle_connection_notices_silence_by_itself(impatient: Link, own_redis: RedisServer) -> None:
    own_redis.signal(signal.SIGSTOP)
    await until(lambda: not connected(impatient))
    own_redis.signal(signal.SIGCONT)
    await until(lambda: connected(impatient))


async def test_start_while_redis_is_silent_and_again(own_redis: RedisServer) -> None:
    own_redis.signal(signal.SIGSTOP)
    link = Link.from_url(own_redis.url, TIMEOUT)
    with pytest.raises(ActivityUnavailable):
        await link.start()
    own_redis.signal(signal.SIGCONT)
    await until(lambda: started(link))
    assert await link.execute("PING") == b"PONG"
    await link.close()


async def started(link: Link) -> bool:
    try:
        await link.start()
    except ActivityUnavailable:
        return False
    return True


async def test_closing_while_redis_is_unavailable(impatient: Link, own_redis: RedisServer) -> None:
    own_redis.kill()
    await until(lambda: not connected(impatient))
    await impatient.close()


@pytest.mark.usefixtures("real_redis_only")
async def test_a_changed_password_keeps_callers_out_until_it_is_right_again(
    impatient: Link, own_redis: RedisServer, caplog: pytest.LogCaptureFixture
) -> None:
    with own_redis.client() as client:
        client.config_set("requirepass", "another")
        client.client_kill_filter(_type="normal", skipme=True)
        await until(lambda: "rejects the user name or password" in caplog.text)
        with pytest.raises(ActivityUnavailable):
            await impatient.execute("PING")
        client.config_set("requirepass", own_redis.password)
    await until(lambda: connected(impatient))
    assert own_redis.password not in caplog.text
    assert await impatient.execute("PING") == b"PONG"


async def test_a_failed_preparation_is_tried_again(patient: Link, own_redis: RedisServer) -> None:
    outcomes: list[Exception | None] = [ActivityUnavailable(), ValueError("a bug in preparing"), None]
    left = iter(outcomes)

    async def prepare(execute: object, run_id: str) -> None:
        if failure := next(left):
            raise failure

    patient.on_connect(prepare)
    own_redis.kill()
    await until(lambda: not connected(patient))
    own_redis.start()
    assert await patient.execute("PING") == b"PONG"
    assert list(left) == []
