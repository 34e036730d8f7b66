"""Warm pods that die, cannot start, or lose their owner."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
from pathlib import Path
from typing import Any

import psutil
import pytest

from session_manager.domain.errors import PodCannotStart
from session_manager.runtime.process import ProcessRuntime
from session_manager.runtime.protocol import PodExit
from tests.runtime.pools import claim, fill, full, new_session, record_pid, waiting
from tests.runtime.programs import CHILD, linux_only, python, serving
from tests.runtime.test_ownership import keeper_of, owner
from tests.runtime.test_pods import alive
from tests.waiting import until


def said(caplog: pytest.LogCaptureFixture) -> list[Any]:
    return [record for record in caplog.records if getattr(record, "event", "") == "warm.failed"]


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
@pytest.mark.parametrize("listens", [True, None])
async def test_a_pod_whose_death_is_not_known_yet_is_not_handed_out(
    slow_to_retry: ProcessRuntime, data: Path, listens: bool | None
) -> None:
    """This also holds where it is unknown which process listens on its port."""
    kept = serving(warm=1)
    await fill(slow_to_retry, kept)
    [waits] = slow_to_retry._warm._pools["test"]._ready
    waits.listens = listens
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
async def test_a_pod_that_no_longer_listens_is_not_handed_out(slow_to_retry: ProcessRuntime, data: Path) -> None:
    """Its port may be a stranger's by now."""
    stops = """
        import pathlib, socket, threading, time
        from session_manager.agent import server
        real = server.listen
        def listen(host, port):
            listener = real(host, port)
            def watch():
                while not pathlib.Path("stop").exists():
                    time.sleep(0.005)
                listener.shutdown(socket.SHUT_RDWR)
                pathlib.Path("stopped").touch()
            threading.Thread(target=watch, daemon=True).start()
            return listener
        server.listen = listen
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


async def test_failed_starts_are_logged_once_and_retried_less_and_less_often(
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


async def test_pods_that_end_as_soon_as_they_are_ready_are_not_restarted_endlessly(
    slow_to_retry: ProcessRuntime, data: Path, caplog: pytest.LogCaptureFixture
) -> None:
    brief = serving("import os, threading; threading.Timer(0.3, lambda: os._exit(1)).start()", warm=3)
    await slow_to_retry.keep_warm([brief])
    pool = slow_to_retry._warm._pools["test"]
    await until(lambda: pool._failures == 3 and not waiting(data))
    assert [record.reason for record in said(caplog)] == ["EndedUnused"]


async def test_a_fixed_class_fills_its_pool(runtime: ProcessRuntime) -> None:
    await runtime.keep_warm([python("raise SystemExit(3)", warm=2)])
    pool = runtime._warm._pools["test"]
    await until(lambda: pool._failures > 0)
    kept = serving(warm=2)
    await fill(runtime, kept)
    assert (await claim(runtime, new_session(), kept))[1]


def warm_left(data: Path) -> list[psutil.Process]:
    leaders = [psutil.Process(record_pid(data, folder.name)) for folder in waiting(data)]
    children = [(folder / "home" / "child") for folder in waiting(data)]
    return leaders + [psutil.Process(int(child.read_text())) for child in children if child.exists()]


@linux_only
@pytest.mark.parametrize("where", CHILD)
async def test_when_the_owner_is_killed_warm_pods_end(data: Path, session: str, where: str) -> None:
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
async def test_when_the_keeper_is_killed_too_the_next_owner_ends_them(data: Path, session: str, where: str) -> None:
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
async def test_when_the_keeper_is_killed_another_fills_the_pool(runtime: ProcessRuntime, data: Path) -> None:
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
