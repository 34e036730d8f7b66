"""Warm pods of processes: ready before a session wants one."""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace
from pathlib import Path

import psutil
import pytest

from session_manager.runtime.process import ProcessRuntime
from tests.runtime.pools import chat, claim, fill, full, new_session, record_pid, waiting
from tests.runtime.programs import CHILD, linux_only, python, serving
from tests.runtime.test_ownership import keeper_of
from tests.runtime.test_pods import alive, pid_of
from tests.waiting import until


async def test_a_claim_starts_nothing_and_the_pool_is_refilled(runtime: ProcessRuntime, data: Path) -> None:
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


async def test_a_claimed_pod_rejects_another_session(runtime: ProcessRuntime) -> None:
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


async def test_the_environment_of_a_warm_pod(runtime: ProcessRuntime, data: Path) -> None:
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


async def test_a_claimed_pod_is_never_reused_and_its_folders_are_removed(runtime: ProcessRuntime, data: Path) -> None:
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


async def test_its_output_belongs_to_the_session_after_the_claim(runtime: ProcessRuntime, data: Path) -> None:
    kept = python(
        "from session_manager.agent import serve\nprint('up')\nserve(lambda message, context: print('got', message))",
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
    assert await runtime.logs(session, 9) == "up\ngot x\nup\ngot x"
    assert (data / "logs" / f"{session}.log").stat().st_mode & 0o777 == 0o600
    await runtime.forget(session, files=True)
    assert await runtime.gone(session)


async def test_while_it_runs_the_session_is_not_gone(runtime: ProcessRuntime, data: Path) -> None:
    """This holds even if it has no HOME and no output, and for a process that is not the owner."""
    kept = serving(warm=1)
    await fill(runtime, kept)
    session = new_session()
    await claim(runtime, session, kept)
    other = ProcessRuntime(data, {})
    assert not await other.gone(session)
    await runtime.forget(session, files=True)
    assert await other.gone(session)


async def test_changing_or_removing_a_class_ends_its_pool(runtime: ProcessRuntime, data: Path) -> None:
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
    assert runtime.pods()[session] == address  # a session keeps its pod
    assert not (await claim(runtime, new_session(), kept))[1]
    assert (await claim(runtime, new_session(), changed))[1]
    await runtime.keep_warm([])
    assert waiting(data) == []


async def test_an_unchanged_class_keeps_its_pool(runtime: ProcessRuntime, data: Path) -> None:
    kept = serving(warm=2)
    await fill(runtime, kept)
    before = {folder.name for folder in waiting(data)}
    await runtime.keep_warm([kept])
    assert {folder.name for folder in waiting(data)} == before


async def test_few_start_at_once(runtime: ProcessRuntime, data: Path) -> None:
    never = python("import time; time.sleep(600)", warm=9)
    await runtime.keep_warm([never, replace(never, name="other")])
    await until(lambda: len(waiting(data)) == 2)
    assert (await claim(runtime, new_session(), serving()))[1] is False  # no session waits for them
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


async def test_close_ends_warm_pods(data: Path) -> None:
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
async def test_all_processes_of_a_warm_pod_end_with_it(runtime: ProcessRuntime, data: Path, where: str) -> None:
    kept = serving(CHILD[where], warm=1)
    await fill(runtime, kept)
    session = new_session()
    address, warm = await claim(runtime, session, kept)
    assert warm
    child = psutil.Process(int((data / "pods" / address.uid / "home" / "child").read_text()))
    await runtime.stop_pod(session, address.uid, grace=20)
    assert not alive(child)
