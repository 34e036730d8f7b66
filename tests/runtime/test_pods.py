"""The life of a pod as a process."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import stat
import uuid
from pathlib import Path

import psutil
import pytest

from session_manager.runtime.process import ProcessRuntime
from session_manager.runtime.protocol import PodExit
from tests.runtime.programs import CHILD, linux_only, python, serving
from tests.waiting import until


def ignore(words: str) -> None:
    pass


def home_of(data: Path, session: str) -> Path:
    return data / "homes" / session


def pid_of(data: Path, session: str) -> int:
    return int(json.loads((data / "run" / f"{session}.json").read_text())["pid"])


def child_of(data: Path, session: str) -> psutil.Process:
    return psutil.Process(int((home_of(data, session) / "child").read_text()))


def alive(process: psutil.Process) -> bool:
    return process.is_running() and process.status() != psutil.STATUS_ZOMBIE


async def test_a_start_reports_its_phases_and_returns_the_address(runtime: ProcessRuntime, session: str) -> None:
    phases: list[str] = []
    address = await runtime.start_pod(session, serving(), phases.append)
    assert phases == ["starting the process", f"waiting for GET /health on port {address.port}"]
    assert runtime.pods() == {session: address}
    assert address.ip == "127.0.0.1"
    _, writer = await asyncio.open_connection(address.ip, address.port)
    writer.close()
    await writer.wait_closed()


async def test_the_environment_is_built_from_scratch(
    runtime: ProcessRuntime, data: Path, session: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REDIS_PASSWORD", "secret")
    monkeypatch.setenv("SESSION_DB_URI", "secret")
    note = "import json, os; json.dump(dict(os.environ), open('seen', 'w'))"
    address = await runtime.start_pod(session, serving(note, env={"ENVIRONMENT": "class", "X": "1"}), ignore)
    seen = json.loads((home_of(data, session) / "seen").read_text())
    assert seen.pop("PATH").endswith(os.environ["PATH"])
    assert seen == {
        "LANG": "C.UTF-8",
        "PYTHONUNBUFFERED": "1",
        "OPENAI_API_KEY": "sk-0123456789",
        "ENVIRONMENT": "class",
        "X": "1",
        "HOME": str(home_of(data, session)),
        "TMPDIR": str(data / "tmp" / address.uid),
        "HOST": "127.0.0.1",
        "PORT": str(address.port),
        "SESSION_ID": session,
    }


@linux_only
async def test_a_pod_inherits_nothing_else(runtime: ProcessRuntime, data: Path, session: str) -> None:
    """None of our files is open in it, no signal is ignored or blocked, and it has its own process session."""
    note = """
        import json, os, signal
        files = sorted(int(name) for name in os.listdir("/proc/self/fd") if os.path.exists(f"/proc/self/fd/{name}"))
        usual = {signal.SIG_DFL, signal.default_int_handler}
        unusual = [n for n in signal.valid_signals() if n not in (signal.SIGPIPE, signal.SIGXFSZ)
                   and signal.getsignal(n) not in usual | {None}]
        json.dump([files, unusual, list(signal.pthread_sigmask(0, [])), os.getsid(0) == os.getpid()], open("seen", "w"))
    """
    await runtime.start_pod(session, serving(note), ignore)
    assert json.loads((home_of(data, session) / "seen").read_text()) == [[0, 1, 2], [], [], True]


async def test_folders_are_for_their_owner_only(runtime: ProcessRuntime, data: Path, session: str) -> None:
    await runtime.start_pod(session, serving(), ignore)
    folders = [path for path in [data, *data.rglob("*")] if path.is_dir()]
    assert len(folders) == 8
    assert {stat.S_IMODE(folder.stat().st_mode) for folder in folders} == {0o700}


async def test_home_survives_sleep_and_expiry_but_not_delete(runtime: ProcessRuntime, data: Path, session: str) -> None:
    leave = "import os, pathlib; pathlib.Path('kept').touch(); pathlib.Path(os.environ['TMPDIR'], 'lost').touch()"
    address = await runtime.start_pod(session, serving(leave + "; print('hello')"), ignore)
    await runtime.stop_pod(session, address.uid, grace=5)
    assert runtime.pods() == {}
    assert [path.name for path in home_of(data, session).iterdir()] == ["kept"]
    assert list((data / "tmp").iterdir()) == []
    await runtime.forget(session, files=False)
    assert (home_of(data, session) / "kept").exists()
    assert not await runtime.gone(session)
    await runtime.forget(session, files=True)
    assert await runtime.gone(session)
    assert [path.name for path in data.rglob("*") if session in path.name] == []


async def test_read_only_files_are_removed_too(runtime: ProcessRuntime, data: Path, session: str) -> None:
    home = home_of(data, session)
    (home / "a" / "b").mkdir(parents=True)
    (home / "a" / "b" / "file").touch()
    outside = data / "outside"
    outside.mkdir()
    (outside / "file").touch()
    (home / "link").symlink_to(outside)
    (home / "a" / "b").chmod(0o500)
    (home / "a").chmod(0)
    await runtime.forget(session, files=True)
    assert not home.exists()
    assert (outside / "file").exists()


async def test_deeply_nested_folders_are_removed_too(runtime: ProcessRuntime, data: Path, session: str) -> None:
    home = home_of(data, session)
    home.mkdir(parents=True)
    present = os.open(home, os.O_RDONLY)
    for _ in range(3000):  # deeper than Python recurses, and than a path may be long
        os.mkdir("deeper", dir_fd=present)
        inner = os.open("deeper", os.O_RDONLY, dir_fd=present)
        os.close(present)
        present = inner
    os.close(present)
    await runtime.forget(session, files=True)
    assert not home.exists()


async def test_a_pod_may_finish_within_its_grace(runtime: ProcessRuntime, data: Path, session: str) -> None:
    finish = (
        "import atexit, pathlib, time; atexit.register(lambda: (time.sleep(0.2), pathlib.Path('finished').touch()))"
    )
    address = await runtime.start_pod(session, serving(finish), ignore)
    await runtime.stop_pod(session, address.uid, grace=20)
    assert (home_of(data, session) / "finished").exists()


async def test_a_pod_that_ignores_sigterm_is_killed(runtime: ProcessRuntime, data: Path, session: str) -> None:
    deaf = """
        import signal, threading
        from session_manager.agent import serve
        real = signal.signal
        signal.signal = lambda number, handler: real(number, signal.SIG_IGN)
        serve(lambda message, context: message)
    """
    address = await runtime.start_pod(session, python(deaf), ignore)
    pod = psutil.Process(pid_of(data, session))
    pod.send_signal(signal.SIGTERM)
    assert alive(pod)
    await runtime.stop_pod(session, address.uid, grace=0.1)
    assert not alive(pod)


@pytest.mark.parametrize("where", CHILD)
async def test_everything_that_a_pod_started_ends_with_it(
    runtime: ProcessRuntime, data: Path, session: str, where: str
) -> None:
    address = await runtime.start_pod(session, serving(CHILD[where]), ignore)
    child = child_of(data, session)
    await runtime.stop_pod(session, address.uid, grace=20)
    assert not alive(child)
    assert not (data / "run" / f"{session}.json").exists()


@linux_only
async def test_the_escaped_child_of_another_pod_lives_on(runtime: ProcessRuntime, data: Path, session: str) -> None:
    other = str(uuid.uuid4())
    address = await runtime.start_pod(session, serving(), ignore)
    await runtime.start_pod(other, serving(CHILD["escaped"]), ignore)
    await runtime.stop_pod(session, address.uid, grace=5)
    assert alive(child_of(data, other))


@pytest.mark.parametrize("where", CHILD)
async def test_children_of_a_pod_end_when_it_exits(
    runtime: ProcessRuntime, data: Path, session: str, where: str
) -> None:
    exits: list[PodExit] = []
    runtime.on_exit(exits.append)
    await runtime.start_pod(session, serving(CHILD[where]), ignore)
    child = child_of(data, session)
    os.kill(pid_of(data, session), signal.SIGKILL)
    await until(lambda: exits)
    assert not alive(child)


async def test_only_a_pod_that_ends_by_itself_is_reported(runtime: ProcessRuntime, data: Path, session: str) -> None:
    exits: list[PodExit] = []
    runtime.on_exit(exits.append)
    first = await runtime.start_pod(session, serving(), ignore)
    await runtime.stop_pod(session, first.uid, grace=5)
    second = await runtime.start_pod(session, serving(), ignore)
    os.kill(pid_of(data, session), signal.SIGKILL)
    await until(lambda: exits)
    assert exits == [PodExit(session, second.uid, "killed by SIGKILL")]
    assert first.uid != second.uid
    assert runtime.pods() == {}


async def test_stopping_again_or_stopping_another_does_nothing(runtime: ProcessRuntime, session: str) -> None:
    address = await runtime.start_pod(session, serving(), ignore)
    await runtime.stop_pod(session, str(uuid.uuid4()), grace=0)
    assert runtime.pods() == {session: address}
    await asyncio.gather(*(runtime.stop_pod(session, address.uid, grace=5) for _ in range(3)))
    await runtime.stop_pod(session, address.uid, grace=5)
    await runtime.stop_pod(str(uuid.uuid4()), address.uid, grace=5)
    assert runtime.pods() == {}


async def test_a_late_stop_leaves_the_next_pod_its_folder(runtime: ProcessRuntime, data: Path, session: str) -> None:
    """Also one whose caller was slow to go on after the end of the pod."""
    fill = "import os, pathlib; [pathlib.Path(os.environ['TMPDIR'], str(n)).touch() for n in range(500)]"
    first = await runtime.start_pod(session, serving(fill), ignore)
    stops = [asyncio.create_task(runtime.stop_pod(session, first.uid, grace=5)) for _ in range(8)]
    second = await runtime.start_pod(session, serving(fill), ignore)
    await asyncio.gather(*stops)
    assert [folder.name for folder in (data / "tmp").iterdir()] == [second.uid]
    assert len(list((data / "tmp" / second.uid).iterdir())) == 500


async def test_a_start_that_is_cancelled_leaves_nothing(runtime: ProcessRuntime, data: Path, session: str) -> None:
    never = python("import time; open('up', 'w').close(); time.sleep(600)")
    starting = asyncio.create_task(runtime.start_pod(session, never, ignore))
    await until((home_of(data, session) / "up").exists)
    pod = psutil.Process(pid_of(data, session))
    starting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await starting
    assert not alive(pod)
    assert list((data / "run").iterdir()) == []


async def test_a_second_start_waits_until_the_first_pod_is_gone(
    runtime: ProcessRuntime, data: Path, session: str
) -> None:
    """They share a HOME."""
    first = await runtime.start_pod(session, serving(), ignore)
    before = psutil.Process(pid_of(data, session))
    second = await runtime.start_pod(session, serving(), ignore)
    assert not alive(before)
    assert runtime.pods() == {session: second}
    assert first != second


async def test_many_pods_at_once(runtime: ProcessRuntime) -> None:
    sessions = [str(uuid.uuid4()) for _ in range(12)]
    addresses = await asyncio.gather(*(runtime.start_pod(session, serving(), ignore) for session in sessions))
    assert len({address.port for address in addresses}) == 12
    assert runtime.pods() == dict(zip(sessions, addresses, strict=True))


async def test_close_ends_all_pods_and_no_other_starts(data: Path) -> None:
    runtime = ProcessRuntime(data, {})
    await runtime.start()
    sessions = [str(uuid.uuid4()) for _ in range(3)]
    await asyncio.gather(*(runtime.start_pod(session, serving(), ignore) for session in sessions))
    pods = [psutil.Process(pid_of(data, session)) for session in sessions]
    await runtime.close()
    assert not any(map(alive, pods))
    assert runtime.pods() == {}
    with pytest.raises(Exception, match="owns the pods"):
        await runtime.start_pod(sessions[0], serving(), ignore)
