"""The commands that talk to a front door: what they print, and what they end with."""

from __future__ import annotations

import json
import os
import pty
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from uuid import uuid4

import pytest
from typer.main import get_command
from typer.testing import CliRunner

from session_manager import __version__
from session_manager.cli.app import app
from session_manager.cli.failures import QUOTA_EXCEEDED, explain
from session_manager.client import ClientError
from tests.cli.program import PROGRAM, FrontDoor, Running, run, until


@pytest.fixture
def running(front: FrontDoor) -> Iterator[Callable[..., Running]]:
    """Start commands that go on; they are ended with the test."""
    with ExitStack() as stack:

        def start(*args: str) -> Running:
            command = Running(*args, cwd=front.cwd, SESSION_MANAGER_URL=front.url)
            stack.callback(command.stop)
            return command

        yield start


def processed(front: FrontDoor, session: str) -> bool:
    return all(each["status"] == "processed" for each in front.client.messages(session))


def test_create_prints_the_id_alone(front):
    made = front.said("create", "--user", "ada", "--class", "talker", "--name", "first")
    assert re.fullmatch(r"[0-9a-f-]{36}", made)
    told = front.printed("status", made)
    assert (told["user_id"], told["class"], told["name"]) == ("ada", "talker", "first")
    assert set(front.printed("create")) == {"uuid", "user_id", "status", "created_at", "expires_at"}


def test_status_as_text(front):
    shown = front.said("status", front.create())
    assert re.search(r"^status +created", shown, re.M)
    assert re.search(r"^reason +never woken", shown, re.M)


def test_list_shows_filters_and_pages(front):
    user = f"user-{uuid4()}"
    sessions = [front.said("create", "--user", user) for _ in range(3)]
    told = front.printed("list", "--user", user)
    assert told["total"] == 3
    assert [each["uuid"] for each in told["sessions"]] == sessions[::-1]
    part = front.printed("list", "--user", user, "--limit", "2")
    assert (len(part["sessions"]), part["total"]) == (2, 3)
    assert front.printed("list", "--user", user, "--status", "awake")["total"] == 0
    assert front.printed("list", "--user", user, "--all")["total"] == 3
    shown = front.said("list", "--user", user)
    assert all(session in shown for session in sessions)


def test_chat_prints_the_reply_alone(front):
    done = front.cli("chat", front.create(), "[bold]hello")
    assert (done.returncode, done.stdout, done.stderr) == (0, "I heard [bold]hello\n", "")


def test_chat_prints_pieces_once(front):
    assert front.said("chat", front.create(), "pieces one two three") == "one two three"


def test_chat_as_json_is_the_answer_of_the_api(front):
    session = front.create()
    told = front.printed("chat", session, "pieces one two")
    assert told.pop("message_id")
    assert told == {"uuid": session, "status": "processed", "pod_response": {"reply": "one two "}}


def test_chat_reads_lines(front):
    session = front.create()
    done = front.cli("chat", session, stdin="first\n\nsecond\n")
    assert (done.returncode, done.stdout) == (0, "I heard first\nI heard second\n")
    done = front.cli("chat", session, stdin="fail now\nnever said\n")
    assert done.returncode == 1
    assert [each["message"] for each in front.client.messages(session)] == ["first", "second", "fail now"]


def test_a_failed_turn_is_printed_and_is_exit_code_1(front):
    done = front.cli("chat", front.create(), "fail with words")
    assert (done.returncode, done.stdout) == (1, "")
    assert "The agent failed: " in done.stderr
    assert "with words" in done.stderr


def test_a_reply_cannot_control_the_terminal(front):
    done = front.cli("chat", front.create(), "a\x1b]0;title\x07b\nc")
    assert done.stdout == "I heard a]0;titleb\nc\n"


def test_ctrl_c_leaves_the_turn_running(front, running):
    session = front.create()
    chat = running("chat", session, "wait")
    chat.until_said("begun")
    chat.signal(signal.SIGINT)
    assert chat.ended() == 130
    [message] = front.client.messages(session)
    assert message["status"] == "running"
    assert "the agent continues" in chat.err
    assert f"session-manager cancel {session} {message['message_id']}" in chat.err
    front.go_on(session)
    until(lambda: processed(front, session), "the turn ends by itself")


def test_a_conversation_on_a_terminal(front):
    session = front.create()
    pid, terminal = pty.fork()
    if pid == 0:
        os.environ.clear()
        os.environ.update({"SESSION_MANAGER_URL": front.url, "TERM": "xterm", "LANG": "C.UTF-8"})
        os.execv(PROGRAM, [str(PROGRAM), "chat", session])
    shown = b""

    def until_shown(words: bytes) -> None:
        nonlocal shown
        while words not in shown:
            shown += os.read(terminal, 65536)

    until_shown(b"> ")
    os.write(terminal, b"hello\n")
    until_shown(b"I heard hello")
    os.write(terminal, b"wait\n")
    until_shown(b"begun")
    os.write(terminal, b"\x03")
    until_shown(b"the agent continues")
    front.go_on(session)
    os.write(terminal, b"fail softly\n")
    until_shown(b"The agent failed")
    os.write(terminal, b"/quit\n")
    assert os.waitpid(pid, 0)[1] == 0
    os.close(terminal)


def test_messages_and_cancel(front):
    session = front.create()
    front.chat(session, "hello")
    front.client.chat(session, "wait", wait=0)
    told = front.printed("messages", session)["messages"]
    assert [each["message"] for each in told] == ["hello", "wait"]
    assert front.said("cancel", session, told[1]["message_id"]) == "failed: cancelled"
    assert front.cli("cancel", session, told[1]["message_id"]).returncode == 6
    shown = front.said("messages", session)
    assert "I heard hello" in shown
    assert "cancelled" in shown


def test_wake_and_sleep(front):
    session = front.create()
    assert front.printed("wake", session, "--keep-awake", "15m")["action"] == "wake"
    until(lambda: front.client.get(session)["status"] == "awake", "awake")
    assert front.said("sleep", session) == "sleeping: The pod goes to sleep."
    front.client.chat(session, "wait", wait=0)
    until(lambda: front.client.get(session)["reason"] == "a turn runs", "the turn runs")
    busy = front.cli("sleep", session)
    assert busy.returncode == 6
    assert "a turn runs or waits" in busy.stderr
    assert front.cli("sleep", session, "--when-idle").returncode == 0
    front.go_on(session)
    until(lambda: front.client.get(session)["status"] == "sleeping", "asleep as soon as idle")


def test_status_follows_until_the_end(front, running):
    session = front.create()
    following = running("status", session, "--follow")
    following.until_said("created")
    front.chat(session, "hello")
    following.until_said("awake")
    front.client.delete(session)
    assert following.ended() == 0
    assert "The session is deleted." in following.err


def test_status_reports_the_end_of_its_front_door(start):
    front = start()
    following = Running("status", front.create(), "--follow", cwd=front.cwd, SESSION_MANAGER_URL=front.url)
    following.until_said("created")
    front.stop()
    assert following.ended() == 5
    assert "cannot reach" in following.err


def test_an_accepted_message_is_reported_as_kept(start):
    front = start()
    session = front.create()
    chat = Running("chat", session, "wait", cwd=front.cwd, SESSION_MANAGER_URL=front.url)
    until(lambda: front.client.get(session)["status"] == "awake", "awake")
    chat.until_said("begun")
    front.signal(signal.SIGKILL)
    front.ended()
    assert chat.ended() == 5
    assert f"Your message is kept. To see the result later: session-manager messages {session}" in chat.err


def test_logs_of_a_silent_pod(front):
    done = front.cli("logs", front.create())
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "Its pods have printed nothing yet.\n")


def test_logs_show_what_the_pod_printed(front, running):
    session = front.create()
    for word in ("one", "two"):
        front.chat(session, word)
    assert front.said("logs", session) == "heard one\nheard two"
    assert front.said("logs", session, "--tail", "1") == "heard two"
    following = running("logs", session, "--follow")
    following.until_said("heard two")
    front.chat(session, "three")
    following.until_said("heard three")
    following.signal(signal.SIGINT)
    assert following.ended() == 130
    assert following.out == "heard one\nheard two\nheard three\n"


def test_a_pod_that_cannot_start_says_why(front):
    session = front.create("broken")
    front.client.chat(session, "hello", wait=0)
    found = until(lambda: (got := front.client.get(session))["status"] == "failed" and got, "failed")
    assert found["reason"].startswith("CrashedAtStart: ")
    assert "no luck" in front.said("status", session)
    assert "no luck" in front.said("logs", session)


def test_chat_shows_why_a_pod_cannot_start(front, running):
    chat = running("chat", front.create("broken"), "hello")
    chat.until_said("The pod did not start and is retried. CrashedAtStart: ")
    chat.until_said("Ctrl-C leaves your message queued.")
    assert re.search(r"^Next try at \d\d:\d\d:\d\d\. Still waiting;", chat.err, re.M)
    chat.signal(signal.SIGINT)
    assert chat.ended() == 130
    assert chat.err.count("CrashedAtStart") == 1
    assert "Stopped waiting; your message stays queued." in chat.err


def test_delete_by_id_and_by_filter(front):
    one, two = front.create(), front.create()
    assert front.said("delete", one, two) == f"{one} terminated\n{two} terminated"
    user = f"user-{uuid4()}"
    mine = front.said("create", "--user", user)
    choice = ("delete", "--user", user, "--status", "created")
    assert front.said(*choice, "--older-than", "1h") == ""
    assert front.said(*choice, "--dry-run") == f"{mine} would be deleted"
    assert front.client.get(mine)["status"] == "created"
    assert front.said(*choice, "--older-than", "0s") == f"{mine} terminated"
    assert front.cli("delete").returncode == 2
    assert front.cli("delete", one, "--status", "created").returncode == 2


NOBODY = "3f2b8a52-6f0e-4c53-9a0e-5c8f3f0f8d11"


@pytest.mark.parametrize(
    ("command", "code"),
    [
        (("status", NOBODY), 3),
        (("chat", NOBODY, "hello"), 3),
        (("delete", NOBODY), 3),
        (("logs", NOBODY), 3),
        (("status", "nonsense"), 2),
        (("status", "../health"), 2),
        (("create", "--class", "unknown"), 2),
        (("create", "--user", " "), 2),
        (("wake", NOBODY, "--keep-awake", "long"), 2),
        (("status",), 2),
        (("no-such-command",), 2),
        (("list", "--status", "odd"), 2),
        (("list", "--user", "line\nbreak"), 2),
        (("list", "--key", "line\nbreak-and-secret"), 2),
        (("list", "--url", "http://127.0.0.1:1"), 5),
        (("list", "--url", "nonsense"), 2),
    ],
    ids=str,
)
def test_every_error_has_its_exit_code(front, command, code):
    done = front.cli(*command)
    assert done.returncode == code, done.stderr
    assert done.stdout == ""
    assert "Traceback" not in done.stderr
    assert "secret" not in done.stderr
    assert done.stderr


@pytest.mark.parametrize(
    ("status", "type_", "code"),
    [
        (403, "about:blank", 4),
        (403, QUOTA_EXCEEDED, 7),
        (413, QUOTA_EXCEEDED, 7),
        (413, "about:blank", 2),
        (405, "about:blank", 2),
        (415, "about:blank", 2),
        (504, "about:blank", 7),
        (418, "about:blank", 1),
    ],
)
def test_the_exit_code_of_an_answer(status, type_, code):
    failure = explain(ClientError("no", status, type_=type_))
    assert failure is not None
    assert failure.exit_code == code


def test_a_user_that_is_no_id_is_named_with_the_rule(front):
    done = front.cli("list", "--user", " x")
    assert (done.returncode, done.stderr) == (2, "Error: --user: must not begin or end with a space\n")


def test_keys_quotas_and_users_are_explained_in_terms_of_the_command_line(start):
    key = "key-of-ada-0123456789"
    front = start(SESSION_API_KEYS=f"web@ada:{key}", SESSIONS_PER_USER="1")
    done = front.cli("list")
    assert (done.returncode, done.stderr.count("set SESSION_MANAGER_KEY or pass --key")) == (4, 1)
    assert front.cli("list", "--key", "x" * 20).returncode == 4
    done = front.cli("create", "--key", key)
    assert (done.returncode, done.stderr.count("set SESSION_MANAGER_USER to the user of your key")) == (4, 1)
    assert front.cli("create", "--key", key, "--user", "ada").returncode == 0
    done = front.cli("create", "--key", key, "--user", "ada")
    assert (done.returncode, "SESSION_MANAGER_USER" in done.stderr) == (7, False)


def test_over_a_limit_it_shows_when_to_try_again(start):
    front = start(RATE_LIMIT_WAKE="1/hour")
    session = front.create()
    assert front.cli("wake", session).returncode == 0
    done = front.cli("wake", session)
    assert done.returncode == 7
    assert re.fullmatch(r"Error: .*; try again in \d+ s\n", done.stderr)


def test_db_upgrade_creates_and_keeps_the_database(tmp_path):
    for _ in range(2):
        done = run("db", "upgrade", cwd=tmp_path)
        assert (done.returncode, done.stderr) == (0, "")
        assert done.stdout.endswith("sessions.db is up to date\n")
    assert (tmp_path / "data" / "sessions" / "sessions.db").exists()


def test_version(tmp_path):
    assert run("version", cwd=tmp_path).stdout == f"{__version__}\n"
    assert run("--version", cwd=tmp_path).stdout == f"{__version__}\n"
    assert json.loads(run("version", "--json", cwd=tmp_path).stdout) == {"version": __version__}


def test_every_command_has_help():
    shown = CliRunner().invoke(app, ["--help"]).stdout
    assert "Exit codes" in shown
    for command in vars(get_command(app))["commands"]:
        assert f"│ {command} " in shown
        done = CliRunner().invoke(app, [command, "--help"])
        assert done.exit_code == 0
        assert re.search(rf"Usage: \S+ {command} ", done.stdout)


def test_it_starts_without_what_only_a_server_needs(tmp_path):
    code = (
        "import sys, session_manager.cli.app; "
        "print({'fastapi', 'pydantic', 'redis', 'requests', 'uvicorn', 'yaml'} & set(sys.modules))"
    )
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"
