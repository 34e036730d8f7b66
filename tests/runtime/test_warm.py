"""Warm pods of processes: ready before a session wants one."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import signal
import uuid
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import aiohttp
import psutil
import pytest

from session_manager.domain.errors import PodCannotStart
from session_manager.domain.session_class import SessionClass
from session_manager.runtime.process import ProcessRuntime
from session_manager.runtime.process.warm import RetryTimes
from session_manager.runtime.protocol import Address, PodExit
from tests.runtime.programs import CHILD, linux_only, python, serving
from tests.runtime.test_ownership import keeper_of, owner
from tests.runtime.test_pods import alive, pid_of
from tests.waiting import until

LONG = 1e6  # seconds: what is paused for so long is not tried again


@pytest.fixture
async def runtime(data: Path) -> AsyncIterator[ProcessRuntime]:
    """With short pauses."""
    runtime = ProcessRuntime(data, {"OPENAI_API_KEY": "sk-0123456789"}, retry=RetryTimes(0.02, 0.1))
    await runtime.start()
    yield runtime
    await runtime.close(grace=0)


@pytest.fixture
async def slow_to_retry(data: Path) -> AsyncIterator[ProcessRuntime]:
    runtime = ProcessRuntime(data, {}, retry=RetryTimes(LONG, LONG))
    await runtime.start()
    yield runtime
    await runtime.close(grace=0)


def new_session() -> str:
    return str(uuid.uuid4())


def waiting(data: Path) -> list[Path]:
    """Folders of the pods that know no session, also of those that are not ready yet."""
    return [folder for folder in (data / "pods").iterdir() if (data / "run" / f"{folder.name}.json").exists()]


def record_pid(data: Path, name: str) -> int:
    return int(json.loads((data / "run" / f"{name}.json").read_text())["pid"])


async def fill(runtime: ProcessRuntime, session_class: SessionClass) -> None:
    await runtime.keep_warm([session_class])
    await full(runtime, session_class)


async def full(runtime: ProcessRuntime, session_class: SessionClass) -> None:
    pool = runtime._warm._pools[session_class.name]
    await until(lambda: len(pool._ready) == session_class.warm)


async def claim(runtime: ProcessRuntime, session: str, session_class: SessionClass) -> tuple[Address, bool]:
    """The pod, and whether it was warm: then no start was told of."""
    phases: list[str] = []
    address = await runtime.start_pod(session, session_class, phases.append)
    return address, phases == []


async def chat(address: Address, session: str) -> int:
    headers = {"X-Session-Id": session, "X-Message-Id": "m"}
    url = f"http://{address.ip}:{address.port}/chat"
    async with aiohttp.ClientSession() as client, client.post(url, json={"message": "x"}, headers=headers) as response:
        return response.status


def said(caplog: pytest.LogCaptureFixture) -> list[Any]:
    return [record for record in caplog.records if getattr(record, "event", "") == "warm.failed"]


async def test_a_claim_starts_nothing_and_the_pool_fills_again(runtime: ProcessRuntime, data: Path) -> None:
    kept = serving(warm=2)
    await fill(runtime, kept)
    assert runtime.pods() == {}
    before = {record_pid(data, folder.name) for folder in waiting(data)}
    one, two = new_session(), new_session()
    for session in (one, two):
        address, warm = await claim(runtime, session, kept)
        assert warm
        assert runtime.pods()[session] == address
        assert await chat(address, session) == 200
    assert {pid_of(data, one), pid_of(data, two)} == before
    await full(runtime, kept)
    assert len(waiting(data)) == 2


async def test_a_pod_that_was_claimed_refuses_another_session(runtime: ProcessRuntime) -> None:
    kept = serving(warm=1)
    await fill(runtime, kept)
    session = new_session()
    address, _ = await claim(runtime, session, kept)
    assert await chat(address, session) == 200
    assert await chat(address, new_session()) == 421


async def test_twenty_claims_at_once_of_a_pool_of_five(runtime: ProcessRuntime, data: Path) -> None:
    kept = serving(warm=5)
    await fill(runtime, kept)
    sessions = [new_session() for _ in range(20)]
    claims = await asyncio.gather(*(claim(runtime, session, kept) for session in sessions))
    assert sum(warm for _, warm in claims) >= 5
    assert len({address.uid for address, _ in claims}) == 20
    assert len({address.port for address, _ in claims}) == 20
    assert len({pid_of(data, session) for session in sessions}) == 20
    assert runtime.pods() == dict(zip(sessions, (address for address, _ in claims), strict=True))
    await full(runtime, kept)


async def test_what_a_pod_of_such_a_class_is_given(runtime: ProcessRuntime, data: Path) -> None:
    """The same whether it was warm or not."""
    note = "import json, os, pathlib; print('seen ' + json.dumps([dict(os.environ), os.getcwd(), os.listdir('.')]))"
    kept = serving(note, warm=1)
    await fill(runtime, kept)
    warm, cold = new_session(), new_session()
    warm_pod, was_warm = await claim(runtime, warm, kept)
    await runtime.keep_warm([])
    cold_pod, cold_was_warm = await claim(runtime, cold, kept)
    assert (was_warm, cold_was_warm) == (True, False)
    for session, address in ((warm, warm_pod), (cold, cold_pod)):
        env, folder, content = json.loads((await runtime.logs(session, 1)).removeprefix("seen "))
        assert env["HOME"] == folder == str(data / "pods" / address.uid / "home")
        assert env["TMPDIR"] == str(data / "tmp" / address.uid)
        assert content == []
        assert "SESSION_ID" not in env
        assert session not in str(env)
        assert not (data / "homes" / session).exists()


async def test_it_never_serves_again_and_its_folders_go_with_it(runtime: ProcessRuntime, data: Path) -> None:
    kept = serving(warm=1)
    await fill(runtime, kept)
    session = new_session()
    first, _ = await claim(runtime, session, kept)
    pod = psutil.Process(pid_of(data, session))
    home = data / "pods" / first.uid
    assert home.exists()
    await runtime.stop_pod(session, first.uid, grace=5)
    assert not alive(pod)
    assert not home.exists()
    assert not (data / "run" / f"{session}.json").exists()
    await full(runtime, kept)
    second, warm = await claim(runtime, session, kept)
    assert warm
    assert second.uid != first.uid


async def test_what_it_printed_belongs_to_the_session_from_the_claim_on(runtime: ProcessRuntime, data: Path) -> None:
    kept = python(
        "from session_manager.agent import serve\nprint('up')\nserve(lambda message, context: print('told', message))",
        warm=1,
    )
    await fill(runtime, kept)
    session = new_session()
    for _ in range(2):
        await full(runtime, kept)
        address, warm = await claim(runtime, session, kept)
        assert warm
        await chat(address, session)
        await runtime.stop_pod(session, address.uid, grace=5)
    assert await runtime.logs(session, 9) == "up\ntold x\nup\ntold x"
    assert (data / "logs" / f"{session}.log").stat().st_mode & 0o777 == 0o600
    await runtime.forget(session, files=True)
    assert await runtime.gone(session)


async def test_while_it_runs_the_session_is_not_gone(runtime: ProcessRuntime, data: Path) -> None:
    """Also when it has neither a HOME nor printed anything: whoever asks may be no owner."""
    kept = serving(warm=1)
    await fill(runtime, kept)
    session = new_session()
    await claim(runtime, session, kept)
    other = ProcessRuntime(data, {})
    assert not await other.gone(session)
    await runtime.forget(session, files=True)
    assert await other.gone(session)


async def test_a_pod_that_died_while_it_waited_is_replaced(runtime: ProcessRuntime, data: Path) -> None:
    exits: list[PodExit] = []
    runtime.on_exit(exits.append)
    kept = serving(warm=1)
    await fill(runtime, kept)
    [folder] = waiting(data)
    os.kill(record_pid(data, folder.name), signal.SIGKILL)
    await until(lambda: not folder.exists())
    await full(runtime, kept)
    address, warm = await claim(runtime, new_session(), kept)
    assert warm
    assert address.uid != folder.name
    assert exits == []  # no session had it


@linux_only
async def test_one_of_whose_death_nobody_knows_yet_is_not_handed_out(slow_to_retry: ProcessRuntime, data: Path) -> None:
    kept = serving(warm=1)
    await fill(slow_to_retry, kept)
    [folder] = waiting(data)
    keeper, pod = keeper_of(psutil.Process()), psutil.Process(record_pid(data, folder.name))
    keeper.suspend()
    pod.kill()
    await until(lambda: not alive(pod))
    claiming = asyncio.create_task(claim(slow_to_retry, new_session(), kept))
    await until(lambda: not slow_to_retry._warm._pools["test"]._ready)
    keeper.resume()
    address, warm = await claiming
    assert not warm
    assert address.uid != folder.name


@linux_only
async def test_one_that_does_not_listen_any_more_is_not_handed_out(slow_to_retry: ProcessRuntime, data: Path) -> None:
    """Its port may be a stranger's by now."""
    stops = """
        import pathlib, socket, threading, time
        from session_manager.agent import server
        real = server._listen
        def listen(host, port):
            listener = real(host, port)
            def watch():
                while not pathlib.Path("stop").exists():
                    time.sleep(0.005)
                listener.shutdown(socket.SHUT_RDWR)
                pathlib.Path("stopped").touch()
            threading.Thread(target=watch, daemon=True).start()
            return listener
        server._listen = listen
    """
    kept = serving(stops, warm=1)
    await fill(slow_to_retry, kept)
    [folder] = waiting(data)
    pod = psutil.Process(record_pid(data, folder.name))
    (folder / "home" / "stop").touch()
    await until((folder / "home" / "stopped").exists)
    assert alive(pod)
    address, warm = await claim(slow_to_retry, new_session(), kept)
    assert not warm
    assert not alive(pod)
    assert address.uid != folder.name


async def test_pods_that_cannot_start_are_said_once_and_tried_more_and_more_seldom(
    runtime: ProcessRuntime, data: Path, caplog: pytest.LogCaptureFixture
) -> None:
    starts = data / "starts"
    broken = python(f"open({str(starts)!r}, 'a').write('x'); print('no key'); raise SystemExit(3)", warm=5)
    with caplog.at_level(logging.WARNING):
        await runtime.keep_warm([broken])
        await until(lambda: starts.exists() and len(starts.read_text()) >= 6)
    [record] = said(caplog)
    assert (record.reason, record.remedy) == ("CrashedAtStart", "exit code 3; last output: no key")
    pool = runtime._warm._pools["test"]
    assert pool._failures >= 4
    with pytest.raises(PodCannotStart, match="CrashedAtStart"):
        await claim(runtime, new_session(), broken)


async def test_failures_pause_the_whole_pool(slow_to_retry: ProcessRuntime, data: Path) -> None:
    starts = data / "starts"
    broken = python(f"open({str(starts)!r}, 'a').write('x'); raise SystemExit(3)", warm=9)
    await slow_to_retry.keep_warm([broken])
    pool = slow_to_retry._warm._pools["test"]
    await until(lambda: pool._failures == 2)  # those that were begun at once
    with pytest.raises(PodCannotStart):
        await claim(slow_to_retry, new_session(), broken)
    assert starts.read_text() == "xxx"


async def test_pods_that_end_as_soon_as_they_are_ready_are_not_started_without_an_end(
    slow_to_retry: ProcessRuntime, data: Path, caplog: pytest.LogCaptureFixture
) -> None:
    brief = serving("import os, threading; threading.Timer(0.3, lambda: os._exit(1)).start()", warm=3)
    await slow_to_retry.keep_warm([brief])
    pool = slow_to_retry._warm._pools["test"]
    await until(lambda: pool._failures == 3 and not waiting(data))
    assert [record.reason for record in said(caplog)] == ["EndedUnused"]


async def test_a_class_that_is_mended_fills_its_pool(runtime: ProcessRuntime) -> None:
    await runtime.keep_warm([python("raise SystemExit(3)", warm=2)])
    pool = runtime._warm._pools["test"]
    await until(lambda: pool._failures > 0)
    kept = serving(warm=2)
    await fill(runtime, kept)
    assert (await claim(runtime, new_session(), kept))[1]


async def test_a_class_that_changed_or_went_ends_its_pool(runtime: ProcessRuntime, data: Path) -> None:
    kept = serving(warm=2)
    await fill(runtime, kept)
    session = new_session()
    address, _ = await claim(runtime, session, kept)
    await full(runtime, kept)
    pods = [psutil.Process(record_pid(data, folder.name)) for folder in waiting(data)]
    changed = replace(kept, env={"X": "1"})
    assert not (await claim(runtime, new_session(), changed))[1]
    await fill(runtime, changed)
    assert not any(map(alive, pods))
    assert runtime.pods()[session] == address  # who has a pod keeps it
    assert not (await claim(runtime, new_session(), kept))[1]
    assert (await claim(runtime, new_session(), changed))[1]
    await runtime.keep_warm([])
    assert waiting(data) == []


async def test_what_does_not_change_keeps_its_pool(runtime: ProcessRuntime, data: Path) -> None:
    kept = serving(warm=2)
    await fill(runtime, kept)
    before = {folder.name for folder in waiting(data)}
    await runtime.keep_warm([kept])
    assert {folder.name for folder in waiting(data)} == before


async def test_few_start_at_once(runtime: ProcessRuntime, data: Path) -> None:
    never = python("import time; time.sleep(600)", warm=9)
    await runtime.keep_warm([never, replace(never, name="other")])
    await until(lambda: len(waiting(data)) == 2)
    assert (await claim(runtime, new_session(), serving()))[1] is False  # nobody waits for them
    assert len(waiting(data)) == 2


@linux_only
async def test_a_claim_that_is_cancelled_leaves_nothing(slow_to_retry: ProcessRuntime, data: Path) -> None:
    kept = serving(warm=1)
    await fill(slow_to_retry, kept)
    [folder] = waiting(data)
    pod = psutil.Process(record_pid(data, folder.name))
    session = new_session()
    keeper = keeper_of(psutil.Process())
    keeper.suspend()  # so that it comes to no end
    claiming = asyncio.create_task(claim(slow_to_retry, session, kept))
    await until(lambda: not slow_to_retry._warm._pools["test"]._ready)
    claiming.cancel()
    keeper.resume()
    with pytest.raises(asyncio.CancelledError):
        await claiming
    assert not alive(pod)
    assert slow_to_retry.pods() == {}
    assert not (data / "run" / f"{session}.json").exists()


async def test_close_ends_those_that_wait(data: Path) -> None:
    runtime = ProcessRuntime(data, {})
    await runtime.start()
    await fill(runtime, serving(warm=3))
    pods = [psutil.Process(record_pid(data, folder.name)) for folder in waiting(data)]
    assert len(pods) == 3
    await runtime.close()
    assert not any(map(alive, pods))
    assert list((data / "pods").iterdir()) == []
    assert list((data / "run").iterdir()) == []


@linux_only
@pytest.mark.parametrize("where", CHILD)
async def test_everything_that_one_started_ends_with_it(runtime: ProcessRuntime, data: Path, where: str) -> None:
    kept = serving(CHILD[where], warm=1)
    await fill(runtime, kept)
    session = new_session()
    address, warm = await claim(runtime, session, kept)
    assert warm
    child = psutil.Process(int((data / "pods" / address.uid / "home" / "child").read_text()))
    await runtime.stop_pod(session, address.uid, grace=20)
    assert not alive(child)


def warm_left(data: Path) -> list[psutil.Process]:
    leaders = [psutil.Process(record_pid(data, folder.name)) for folder in waiting(data)]
    children = [(folder / "home" / "child") for folder in waiting(data)]
    return leaders + [psutil.Process(int(child.read_text())) for child in children if child.exists()]


@linux_only
@pytest.mark.parametrize("where", CHILD)
async def test_when_the_owner_is_killed_those_that_wait_end(data: Path, session: str, where: str) -> None:
    with owner(data, session, serving(CHILD[where]).command[-1], "2") as process:
        left = warm_left(data)
        assert len(left) == 4
        process.kill()
        await until(lambda: not any(map(alive, left)))
    following = ProcessRuntime(data, {}, patience=20)
    await following.start()
    assert list((data / "pods").iterdir()) == []
    await following.close()


@linux_only
@pytest.mark.parametrize("where", CHILD)
async def test_when_the_keeper_is_killed_too_the_next_owner_ends_those(data: Path, session: str, where: str) -> None:
    with owner(data, session, serving(CHILD[where]).command[-1], "2") as process:
        left = warm_left(data)
        process.suspend()
        keeper_of(process).kill()
        await until(lambda: sum(map(alive, left)) == 2)  # the kernel ended the leaders
        process.kill()
        following = ProcessRuntime(data, {}, patience=20)
        await following.start()
        assert not any(map(alive, left))
        assert list((data / "run").iterdir()) == []
        assert list((data / "pods").iterdir()) == []
        await following.close()


@linux_only
async def test_when_the_keeper_is_killed_the_pool_is_filled_by_another(runtime: ProcessRuntime, data: Path) -> None:
    kept = serving(warm=2)
    await fill(runtime, kept)
    before = {folder.name for folder in waiting(data)}
    keeper_of(psutil.Process()).kill()
    pool = runtime._warm._pools["test"]
    await until(lambda: not before & {pod.address.uid for pod in pool._ready})
    await full(runtime, kept)
    address, warm = await claim(runtime, new_session(), kept)
    assert warm
    assert address.uid not in before
