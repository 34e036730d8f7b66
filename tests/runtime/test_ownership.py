"""One owner per data folder; when it is killed its pods end, and the next one finds what could be left."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil
import pytest

from session_manager.domain.errors import PodCannotStart, StartupFailure
from session_manager.domain.session_class import SessionClass
from session_manager.runtime.process import ProcessRuntime, leftovers
from session_manager.runtime.process.keeper import started
from session_manager.runtime.protocol import PodExit
from tests.runtime.programs import CHILD, SERVE, linux_only, serving
from tests.runtime.test_pods import alive, child_of, home_of, ignore, pid_of
from tests.waiting import until

OWNER = Path(__file__).with_name("owner.py")


@contextmanager
def owner(data: Path, session: str, code: str, *warm: str) -> Iterator[psutil.Popen]:
    process = psutil.Popen([sys.executable, OWNER, data, session, code, *warm], stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout.readline() == "ready\n"
        yield process
    finally:
        with suppress(psutil.NoSuchProcess):
            process.kill()
        process.wait()
        process.stdout.close()


def keeper_of(process: psutil.Process) -> psutil.Process:
    [keeper] = [child for child in process.children() if "keeper.py" in " ".join(child.cmdline())]
    return keeper


@contextmanager
def bystander(*args: str, **kwargs) -> Iterator[psutil.Popen]:
    process = psutil.Popen(
        [sys.executable, "-c", "import time; print(flush=True); time.sleep(600)", *args],
        stdout=subprocess.PIPE,
        start_new_session=True,
        **kwargs,
    )
    try:
        process.stdout.readline()
        yield process
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


async def test_there_is_one_owner(runtime: ProcessRuntime, data: Path, session: str) -> None:
    address = await runtime.start_pod(session, serving(), ignore)
    second = ProcessRuntime(data, {}, patience=0.1)
    with pytest.raises(StartupFailure, match="Another process owns the pods"):
        await second.start()
    await second.close()
    assert runtime.pods() == {session: address}
    assert alive(psutil.Process(pid_of(data, session)))
    await runtime.close()
    await second.start()
    await second.close()


async def test_a_process_that_is_not_the_owner_can_read(runtime: ProcessRuntime, data: Path, session: str) -> None:
    await runtime.start_pod(session, serving("print('hello')"), ignore)
    other = ProcessRuntime(data, {})
    assert await other.logs(session, 10) == "hello"
    assert not await other.gone(session)


@pytest.mark.parametrize("where", CHILD)
async def test_when_the_owner_is_killed_everything_ends(data: Path, session: str, where: str) -> None:
    with owner(data, session, CHILD[where] + SERVE) as process:
        left = [keeper_of(process), psutil.Process(pid_of(data, session)), child_of(data, session)]
        assert all(map(alive, left))
        process.kill()
        await until(lambda: not any(map(alive, left)))
    assert list((data / "run").iterdir()) == []


async def test_the_next_owner_starts_when_the_pods_of_the_previous_one_are_gone(data: Path, session: str) -> None:
    """The keeper holds the lock until then. Here it is held up, so that the pod outlives its owner."""
    with owner(data, session, SERVE) as process:
        keeper, pod = keeper_of(process), psutil.Process(pid_of(data, session))
        keeper.suspend()
        process.kill()
        process.wait()
        with pytest.raises(StartupFailure, match="Another process owns the pods"):
            await ProcessRuntime(data, {}, patience=0.1).start()
        assert alive(pod)
        keeper.resume()
        following = ProcessRuntime(data, {}, patience=20)
        await following.start()
        assert not alive(pod)
        await following.start_pod(session, serving(), ignore)
        await following.close()


@linux_only
@pytest.mark.parametrize("where", CHILD)
async def test_when_the_keeper_is_killed_too_the_next_owner_ends_the_rest(data: Path, session: str, where: str) -> None:
    with owner(data, session, CHILD[where] + SERVE) as process:
        keeper, pod, child = keeper_of(process), psutil.Process(pid_of(data, session)), child_of(data, session)
        process.suspend()  # so that it cannot do it
        keeper.kill()
        await until(lambda: not alive(pod))  # by the kernel
        assert alive(child)
        process.kill()
        following = ProcessRuntime(data, {}, patience=20)
        await following.start()
        assert not alive(child)
        assert list((data / "run").iterdir()) == []
        assert list((data / "tmp").iterdir()) == []
        await following.close()


@linux_only
async def test_when_the_keeper_is_killed_the_owner_starts_another(
    runtime: ProcessRuntime, data: Path, session: str
) -> None:
    exits: list[PodExit] = []
    runtime.on_exit(exits.append)
    first = await runtime.start_pod(session, serving(CHILD["in its group"]), ignore)
    pod, child = psutil.Process(pid_of(data, session)), child_of(data, session)
    keeper_of(psutil.Process()).kill()
    await until(lambda: exits)
    assert exits == [PodExit(session, first.uid, "killed together with the process that held it")]
    assert not alive(pod)
    assert not alive(child)
    second = await runtime.start_pod(session, serving(), ignore)
    assert runtime.pods() == {session: second}


async def test_the_signals_of_a_terminal_or_a_service_manager_do_not_end_the_keeper(
    runtime: ProcessRuntime, session: str
) -> None:
    keeper = keeper_of(psutil.Process())
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        keeper.send_signal(number)
    address = await runtime.start_pod(session, serving(), ignore)
    assert runtime.pods() == {session: address}


async def next_owner(data: Path) -> None:
    runtime = ProcessRuntime(data, {})
    await runtime.start()
    await runtime.close()


def record(data: Path, session: str, **fields: object) -> None:
    (data / "run").mkdir(parents=True, exist_ok=True)
    (data / "run" / f"{session}.json").write_text(json.dumps({"pod": "x", **fields}))


@linux_only
async def test_a_pid_that_was_reused_is_not_killed(data: Path, session: str) -> None:
    with bystander() as process:
        record(data, session, pid=process.pid, started=(started(process.pid) or 0) - 1, at=time.time())
        await next_owner(data)
        assert alive(process)
    assert list((data / "run").iterdir()) == []


@linux_only
async def test_a_pod_that_hides_its_environment_is_found_by_its_record(data: Path, session: str) -> None:
    with bystander(env={}) as process:
        record(data, session, pid=process.pid, started=started(process.pid), at=time.time())
        await next_owner(data)
        assert not alive(process)


@linux_only
async def test_a_pod_with_half_a_record_is_found_by_its_environment(data: Path, session: str) -> None:
    data.joinpath("run").mkdir(parents=True)
    data.joinpath("run", f"{session}.json").write_text('{"pod": "x", "pi')
    data.joinpath("run", f"{session}.json.half").touch()
    with bystander(env={"SESSION_ID": session, "HOME": str(home_of(data, session))}) as process:
        await next_owner(data)
        assert not alive(process)
    assert list((data / "run").iterdir()) == []


@linux_only
async def test_leftovers_are_all_signalled_before_the_first_is_waited_for(
    data: Path, session: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """None of them ends before all were signalled."""
    signalled: list[int] = []
    send = signal.pidfd_send_signal

    def hold_back(descriptor: int, number: int) -> None:
        signalled.append(descriptor)
        if len(signalled) == 3:
            for each in signalled:
                send(each, number)

    monkeypatch.setattr(signal, "pidfd_send_signal", hold_back)
    monkeypatch.setattr(leftovers, "PATIENCE", 20.0)
    env = {"SESSION_ID": session, "HOME": str(home_of(data, session))}
    with bystander(env=env) as first, bystander(env=env) as second, bystander(env=env) as third:
        began = time.monotonic()
        await next_owner(data)
        assert time.monotonic() - began < 10
        assert not any(map(alive, (first, second, third)))
    assert len(signalled) == 3


@linux_only
async def test_leftovers_that_ended_after_the_deadline_are_no_error(
    data: Path, session: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(leftovers, "END_WITHIN", 0.0)
    with bystander(env={"SESSION_ID": session, "HOME": str(home_of(data, session))}) as process:
        await next_owner(data)
        assert not alive(process)


@linux_only
async def test_leftovers_that_do_not_end_are_an_error(
    data: Path, session: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(leftovers, "END_WITHIN", 0.0)
    monkeypatch.setattr(leftovers, "PATIENCE", 0.01)
    monkeypatch.setattr(signal, "pidfd_send_signal", lambda descriptor, number: None)
    env = {"SESSION_ID": session, "HOME": str(home_of(data, session))}
    with bystander(env=env), pytest.raises(StartupFailure, match="do not end"):
        await next_owner(data)


@pytest.mark.parametrize("home", ["/elsewhere", "{data}/homes", "{data}/homes/another", ""])
async def test_processes_of_other_folders_are_left_alone(data: Path, session: str, home: str) -> None:
    with bystander(env={"SESSION_ID": session, "HOME": home.format(data=data)}) as process:
        await next_owner(data)
        assert alive(process)


async def test_records_are_checked_by_ps_where_there_is_no_proc(data: Path, session: str) -> None:
    with bystander() as process:
        at = psutil.Process(process.pid).create_time()
        assert not leftovers._kill_by_ps(leftovers.Record(process.pid, None, at - 60))
        assert alive(process)
        assert leftovers._kill_by_ps(leftovers.Record(process.pid, None, at))
        await until(lambda: not alive(process))
        assert not leftovers._kill_by_ps(leftovers.Record(process.pid, None, at))


async def test_a_folder_that_cannot_be_written_to_is_one_clear_line(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(StartupFailure, match=r"DATA_DIR: cannot write to .* \(Not a directory\)"):
        await ProcessRuntime(tmp_path / "file" / "data", {}).start()


async def test_a_lock_that_cannot_be_opened_is_one_clear_line(data: Path) -> None:
    (data / "runtime.lock").mkdir(parents=True)
    with pytest.raises(StartupFailure, match=r"Cannot run pods in .*: Is a directory"):
        await ProcessRuntime(data, {}).start()


async def test_a_keeper_that_does_not_start(data: Path, session: str, monkeypatch: pytest.MonkeyPatch) -> None:
    runtime = ProcessRuntime(data, {})
    monkeypatch.setattr(sys, "executable", "/bin/false")
    with pytest.raises(StartupFailure, match="The keeper, the process that holds the pods, did not start"):
        await runtime.start()
    monkeypatch.undo()
    await runtime.start()
    try:
        keeper = keeper_of(psutil.Process())
        monkeypatch.setattr(sys, "executable", "/bin/false")
        keeper.kill()
        await until(lambda: runtime._link is not None and not runtime._link.alive)
        with pytest.raises(PodCannotStart, match=r"MachineTrouble: The keeper, .* did not start"):
            await runtime.start_pod(session, SessionClass("any", ("true",)), lambda phase: None)
    finally:
        await runtime.close()


@linux_only
async def test_a_keeper_that_is_lost_while_a_pod_starts(runtime: ProcessRuntime, session: str) -> None:
    killed: list[int] = []

    def kill_keeper(words: str) -> None:
        if words.startswith("waiting"):
            killed.append(keeper_of(psutil.Process()).pid)
            os.kill(killed[0], signal.SIGKILL)

    with pytest.raises(Exception, match="CrashedAtStart"):
        await runtime.start_pod(session, serving("import time; time.sleep(600)"), kill_keeper)
    assert killed
    assert runtime.pods() == {}
