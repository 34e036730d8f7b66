"""``session-manager dev``: everything on one machine, started and ended by one command."""

from __future__ import annotations

import json
import re
import signal
import socket
import stat
import subprocess
import threading
from concurrent.futures import ThreadPoolExecutor

import psutil
import pytest
import requests

from tests.cli.program import (
    BASE,
    PROGRAM,
    FrontDoor,
    assert_gone,
    assert_one_line,
    hide_real_redis,
    is_redis,
    run,
    until,
)


def test_the_life_of_a_session(start_with_each_redis):
    front = start_with_each_redis()

    def said(*args: str) -> str:
        done = run(*args, cwd=front.cwd, SESSION_MANAGER_URL=front.url)
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    session = said("create")
    assert front.client.get(session)["status"] == "created"
    assert said("chat", session, "hello there") == "You said: hello there"
    assert front.client.get(session)["status"] == "awake"
    assert json.loads(said("sleep", session, "--json"))["status"] == "sleeping"
    assert front.client.get(session)["status"] == "sleeping"
    assert json.loads(said("wake", session, "--json"))["status"] in {"waking", "awake"}
    assert said("chat", session, "again") == "You said: again"
    assert said("delete", session) == f"{session} terminated"
    assert run("status", session, cwd=front.cwd, SESSION_MANAGER_URL=front.url).returncode == 3


def test_what_it_prints_can_be_typed(start):
    front = start()
    until(lambda: "Try:" in front.out, "the three commands")
    assert f"listens on {front.url}\n" in front.out
    [chat] = re.findall(r"^  (.*session-manager.* chat .*)$", front.out, re.M)
    path = f"{PROGRAM.parent}:{BASE['PATH']}"
    done = subprocess.run(
        chat, shell=True, cwd=front.cwd, env={"PATH": path}, capture_output=True, text=True, timeout=30, check=True
    )
    assert done.stdout == "You said: Hello\n"
    [curl] = re.findall(r"^  curl -s (.*)$", front.out, re.M)
    assert curl == f"{front.url}/session/create -H 'Content-Type: application/json' -d '{{\"user_id\": \"ada\"}}'"
    assert requests.get(f"{front.url}/docs", timeout=10).status_code == 200


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_ends_everything_quietly(start, number: signal.Signals):
    front = start()
    front.chat(front.create(), "hello")
    family = front.family()
    assert any(map(is_redis, family))
    assert any("talker.py" in " ".join(each.cmdline()) for each in family)
    front.signal(number)
    assert front.ended() == 0
    assert_gone(family)
    assert "Traceback" not in front.err
    assert {line["severity"] for line in front.log} == {"INFO"}


def test_killed_it_leaves_nothing_behind(start_with_each_redis):
    front = start_with_each_redis()
    front.chat(front.create(), "hello")
    family = front.family()
    front.signal(signal.SIGKILL)
    front.ended()
    assert_gone(family)


def test_a_running_turn_is_finished_first_and_waiting_callers_are_answered(start):
    front = start(SHUTDOWN_TIMEOUT="30")
    session = front.create()
    answers = {}

    def ask(message: str) -> None:
        url, headers = f"{front.url}/session/{session}/chat", {"Prefer": "wait=60"}
        answers[message] = requests.post(url, json={"message": message}, headers=headers, timeout=60)

    front.chat(session, "hello")
    threads = [threading.Thread(target=ask, args=(message,)) for message in ("wait", "later")]
    for number, thread in enumerate(threads, 2):
        thread.start()
        until(lambda: len(list(front.client.messages(session))) == number, "accepted")  # noqa: B023
    until(lambda: front.client.get(session)["reason"] == "a turn runs", "the turn runs")
    front.signal(signal.SIGTERM)
    front.until_said('"front.stopping"')
    front.go_on(session)
    assert front.ended() == 0
    for thread in threads:
        thread.join()
    assert (answers["wait"].status_code, answers["wait"].json()["pod_response"]) == (200, {"reply": "begun ended"})
    assert (answers["later"].status_code, answers["later"].json()["status"]) == (202, "queued")
    assert {line["severity"] for line in front.log} == {"INFO"}
    # And the next one goes on where this one stopped.
    after = start()
    until(
        lambda: [each["status"] for each in after.client.messages(session)] == ["processed"] * 3,
        "the waiting message is processed",
    )


def test_a_second_ctrl_c_does_not_wait_for_the_turn(start):
    front = start(SHUTDOWN_TIMEOUT="600")
    session = front.create()
    turn = front.client.stream(session, "wait")
    assert any(event and event.kind == "delta" for event in turn)
    family = front.family()
    front.signal(signal.SIGINT)
    front.until_said('"front.stopping"')
    front.signal(signal.SIGINT)
    assert front.ended() == 0
    assert_gone(family)
    assert "Traceback" not in front.err


def test_a_taken_port_is_one_line(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        done = run("dev", cwd=tmp_path, PORT=port)
    assert_one_line(done, f"PORT: {port} on 127.0.0.1 is in use; choose another port")
    assert not (tmp_path / "data").exists()


def test_a_folder_that_cannot_be_used_is_one_line(tmp_path):
    (tmp_path / "file").touch()
    assert_one_line(run("dev", "--data-dir", "file", cwd=tmp_path), "DATA_DIR: cannot write to file (not a folder)")
    assert_one_line(
        run("dev", cwd=tmp_path, DATA_DIR="file/below"), "DATA_DIR: cannot write to file/below (not a directory)"
    )


def test_a_redis_that_cannot_write_its_address_is_one_line(tmp_path):
    (tmp_path / "data" / "redis" / "address").mkdir(parents=True)
    assert_one_line(run("dev", cwd=tmp_path), "Cannot run Redis in data/redis: Is a directory")


def test_its_folders_are_for_the_owner_only(start):
    front = start()
    front.chat(front.create(), "hello")
    folders = [front.cwd / "data", *(each for each in (front.cwd / "data").rglob("*") if each.is_dir())]
    assert len(folders) > 5
    for folder in folders:
        assert stat.S_IMODE(folder.stat().st_mode) & 0o077 == 0, folder
    assert stat.S_IMODE((front.cwd / "data" / "redis" / "address").stat().st_mode) == 0o600


def test_messages_survive_a_restart(start_with_each_redis):
    first = start_with_each_redis()
    session = first.create()
    first.chat(session, "hello")
    assert first.stop() == 0
    second = start_with_each_redis()
    [message] = second.client.messages(session)
    assert message["pod_response"] == {"reply": "I heard hello"}
    assert second.chat(session, "more") == "I heard more"


def owns_redis(front: FrontDoor) -> bool:
    return any(map(is_redis, front.family()))


def test_two_on_one_folder_are_two_front_doors(start_with_each_redis):
    with ThreadPoolExecutor(2) as both_at_once:
        doors = list(both_at_once.map(lambda _: start_with_each_redis(), range(2)))
    first, second = sorted(doors, key=owns_redis, reverse=True)
    assert not owns_redis(second)
    session = first.create()
    assert second.chat(session, "from two") == "I heard from two"
    assert first.chat(session, "from one") == "I heard from one"
    # The owner of Redis and of the pods goes; the other goes on with both.
    family = first.family()
    assert first.stop() == 0
    assert_gone(family)
    second.until_said('"redis.started_again"')
    until(lambda: requests.get(f"{second.url}/readyz", timeout=10).ok, "Redis is back")
    assert second.chat(session, "alone") == "I heard alone"
    assert "Traceback" not in first.err + second.err


def test_a_redis_that_was_killed_comes_back(start_with_each_redis):
    front = start_with_each_redis()
    session = front.create()
    front.chat(session, "one")
    [redis] = filter(is_redis, front.family())
    redis.kill()
    psutil.wait_procs([redis], 10)
    front.until_said('"redis.started_again"')
    until(lambda: requests.get(f"{front.url}/readyz", timeout=10).ok, "Redis is back")
    assert front.chat(session, "two") == "I heard two"


def test_it_says_which_redis_it_uses(start, tmp_path_factory):
    hidden = hide_real_redis(tmp_path_factory.mktemp("hidden"))
    first, second = start(**hidden), start()
    [line], [shared] = ([each for each in front.log if each["event"] == "redis.local"] for front in (first, second))
    assert line["message"].startswith("Redis is the embedded one, in Python: enough for a laptop")
    assert shared["message"] == "Redis is the one of another front door on this folder"
    assert second.stop() == first.stop() == 0
    assert "Traceback" not in first.err + second.err
    assert {line["severity"] for line in first.log} == {"INFO"}


def test_with_an_existing_redis_it_starts_no_other(start, redis_url):
    front = start(REDIS_URL=redis_url)
    assert front.chat(front.create(), "hello") == "I heard hello"
    assert not owns_redis(front)
    assert not (front.cwd / "data" / "redis").exists()
