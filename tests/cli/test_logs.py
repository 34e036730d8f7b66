"""Log lines: their form, and what they never contain."""

from __future__ import annotations

import io
import json
import logging
import re
import sys
import warnings
from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Any

import pytest

from session_manager.domain.errors import StartupFailure
from session_manager.logs import setup_logging
from session_manager.settings import Settings


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture(autouse=True)
def _logging_as_before() -> Iterator[None]:
    root, ours = logging.getLogger(), logging.getLogger("session_manager")
    before = root.handlers[:], root.level, ours.level
    yield
    root.handlers[:], root.level, ours.level = before
    logging.captureWarnings(False)


def logged(stream: io.StringIO | None = None, **settings: Any) -> io.StringIO:
    stream = stream or io.StringIO()
    setup_logging(Settings.from_environment(instance="replica-1", **settings), stream)
    return stream


def test_a_line_has_its_fields():
    out = logged()
    extra = {"event": "pod.started", "session": "3f2b", "duration": 0.25}
    logging.getLogger("session_manager.scaling").info("pod %s", "started", extra=extra)
    line = json.loads(out.getvalue())
    assert list(line)[:4] == ["timestamp", "severity", "event", "message"]
    moment = datetime.fromisoformat(line.pop("timestamp"))
    assert moment.utcoffset() == timedelta(0)
    assert line == {
        "severity": "INFO",
        "event": "pod.started",
        "message": "pod started",
        "instance": "replica-1",
        "session": "3f2b",
        "duration": 0.25,
    }


def test_a_line_without_an_event_is_named_after_its_logger():
    out = logged()
    logging.getLogger("asyncio").warning("Invalid HTTP request received.", extra={"color_message": "x"})
    line = json.loads(out.getvalue())
    assert (line["event"], line["severity"]) == ("asyncio", "WARNING")
    assert "color_message" not in line


def test_libraries_log_warnings_and_errors():
    out = logged(log_level="debug")
    logging.getLogger("asyncio").info("not this")
    logging.getLogger("session_manager.turns").debug("but this")
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        warnings.warn("and this", UserWarning, stacklevel=1)
    assert [json.loads(line)["severity"] for line in out.getvalue().splitlines()] == ["DEBUG", "WARNING"]


def test_callers_cannot_fill_the_log():
    out = logged()
    for name in ("slowapi", "uvicorn.error"):
        logging.getLogger(name).warning("a caller did something")
        logging.getLogger(name).error("this is ours")
    assert [json.loads(line)["message"] for line in out.getvalue().splitlines()] == ["this is ours"] * 2


def test_levels():
    out = logged(log_level="ERROR")
    for name in ("session_manager.api", "uvicorn.error"):
        logging.getLogger(name).warning("not this")
        logging.getLogger(name).error("but this")
    assert [json.loads(line)["message"] for line in out.getvalue().splitlines()] == ["but this", "but this"]


def test_an_exception_stays_in_its_line():
    out = logged()
    try:
        raise ValueError("odd\nthing")
    except ValueError:
        logging.getLogger("session_manager").exception("failed")
    [line] = out.getvalue().splitlines()
    assert "ValueError: odd\nthing" in json.loads(line)["exc_info"]


def test_on_a_terminal_it_is_for_people():
    out = logged(Terminal())
    extra = {"event": "pod.started", "session": "3f2b", "duration": 0.25}
    logging.getLogger("session_manager.scaling").info("pod started", extra=extra)
    plain = re.sub(r"\x1b\[[0-9;]*m", "", out.getvalue())
    assert re.fullmatch(r"\d\d:\d\d:\d\d INFO    pod started  event=pod.started session=3f2b duration=0.25\n", plain)


def test_log_fields_cannot_control_the_terminal():
    out = logged(log_format="pretty")
    logging.getLogger("session_manager").info("GET /\x1b[2J\nfalse line", extra={"session": "\x1b[31m"})
    assert out.getvalue().count("\n") == 1
    assert "\x1b[2J" not in out.getvalue()
    assert "\x1b[31m" not in out.getvalue()


def test_the_form_can_be_chosen():
    out = logged(Terminal(), log_format="json")
    logging.getLogger("session_manager").info("hello")
    assert json.loads(out.getvalue())["message"] == "hello"
    with pytest.raises(StartupFailure, match="LOG_FORMAT"):
        logged(log_format="xml")
    with pytest.raises(StartupFailure, match="LOG_LEVEL"):
        logged(log_level="everything")


def test_it_goes_to_stderr(capsys):
    setup_logging(Settings.from_environment())
    logging.getLogger("session_manager").info("hello")
    sys.stderr.flush()
    assert "hello" in capsys.readouterr().err


def test_a_front_door_logs_json_without_secrets(start):
    key, text = "very-secret-service-key", "nobody else should read this"
    front = start("dev", LOG_LEVEL="DEBUG", SESSION_API_KEYS=f"web:{key}", GEMINI_API_KEY="gemini-secret")
    mine = {"SESSION_MANAGER_KEY": key, "SESSION_MANAGER_USER": "ada"}
    session = front.said("create", "--class", "talker", "--user", "ada", **mine)
    assert front.said("chat", session, text, **mine) == f"I heard {text}"
    assert front.cli("chat", session, f"fail {text}", **mine).returncode == 1
    assert front.cli("chat", session, text, SESSION_MANAGER_KEY="not-a-key-at-all").returncode == 4
    front.said("delete", session, **mine)
    assert front.stop() == 0
    redis_password = json.loads((front.cwd / "data" / "redis" / "address").read_text())["password"]
    for line in front.log:
        assert {"timestamp", "severity", "event", "message"} <= set(line)
    events = {line["event"] for line in front.log}
    assert {"front.serving", "pod.started", "session.deleted", "http.request", "front.stopped"} <= events
    assert "duration" in next(line for line in front.log if line["event"] == "pod.started")
    for secret in (key, text, "gemini-secret", "not-a-key-at-all", redis_password):
        assert secret not in front.err
        assert secret not in front.out
