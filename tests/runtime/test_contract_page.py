"""docs/pod-contract.md says what the code does."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from session_manager.agent import wire
from session_manager.domain.message import MAX_DEATHS, MAX_MESSAGE_BYTES
from session_manager.domain.session_class import Probe, SessionClass
from session_manager.podclient import connection, gateway, replies, streams
from session_manager.runtime.classes import load_classes
from session_manager.runtime.process import warm
from session_manager.runtime.process.keeper import MAX_LOG
from session_manager.runtime.process.pods import RESERVED, pod_environment
from session_manager.runtime.process.runtime import agent_environment
from session_manager.settings import Settings

PAGE = (Path(__file__).parents[2] / "docs" / "pod-contract.md").read_text("utf-8")
MEBIBYTE = 1024 * 1024


def section(title: str) -> str:
    return PAGE.partition(f"\n## {title}")[2].partition("\n## ")[0]


def rows(title: str) -> list[tuple[str, str]]:
    """First two columns of the section's tables, without their heads."""
    lines = [line.split("|") for line in section(title).splitlines() if line.startswith("| `")]
    return [(line[1].strip(), line[2].strip()) for line in lines]


def test_fields_and_defaults_of_a_class(tmp_path: Path) -> None:
    listed = {name.strip("`"): default.strip("`") for name, default in rows("SessionClasses")}
    lines = ["classes:", "  - name: any", "    image: x", "    probe:"]
    for name, default in sorted(listed.items(), key=lambda row: not row[0].startswith("probe.")):
        if default not in {"", "IDLE_TIMEOUT", "SESSION_TTL"}:
            lines.append(f"{'      ' if '.' in name else '    '}{name.removeprefix('probe.')}: {default}")
    (tmp_path / "classes.yaml").write_text("\n".join(lines), "utf-8")
    classes = load_classes(Settings.from_environment(session_classes=tmp_path / "classes.yaml"))
    assert classes.get("any") == SessionClass("any", image="x")
    known = {
        "name",
        "command",
        "image",
        "port",
        "protocol",
        "env",
        "redelivery",
        "appState",
        "warm",
        "idleTimeoutSeconds",
        "ttlSeconds",
    }
    known |= {"turnTimeoutSeconds", "gracePeriodSeconds"}
    known |= {f"probe.{name}" for name in ("path", "startupTimeoutSeconds", "intervalSeconds", "timeoutSeconds")}
    assert set(listed) == known


def test_variables_of_a_pod(tmp_path: Path) -> None:
    keys = ("gemini_api_key", "gemini_model", "openai_api_key", "anthropic_api_key", "google_api_key")
    agent_env = agent_environment(Settings.from_environment(session_manager_url="http://x", **dict.fromkeys(keys, "x")))
    given = pod_environment("s", 1, tmp_path, tmp_path, SessionClass("x"), agent_env)
    listed = {name for names, _ in rows("What a pod is given") for name in re.findall(r"`(\w+)`", names)} - {"env"}
    assert listed == set(given)
    [reserved] = re.findall(r"it cannot set (.*?) \|", section("What a pod is given"))
    assert set(re.findall(r"`(\w+)`", reserved)) == RESERVED


@pytest.mark.parametrize(
    ("title", "words"),
    [
        ("What a pod is given", f"the last {MAX_LOG // MEBIBYTE} to {2 * MAX_LOG // MEBIBYTE} MiB"),
        ("Ready", f"every {Probe().interval * 1000:g} ms"),
        ("Ready", f"at most {Probe().timeout:g} s"),
        ("Ready", f"within {Probe().startup_timeout:g} s"),
        ("A message", f"at most {MAX_MESSAGE_BYTES // MEBIBYTE} MiB of message"),
        ("The reply", f"At most {connection.MAX_REPLY // MEBIBYTE} MiB"),
        ("The reply", f"open for more than {gateway.KEEP:g} s"),
        ("Streaming", f"the pod has {streams.LINGER:g} s to end the stream"),
        ("Streaming", f"of at most {connection.MAX_REPLY // MEBIBYTE} MiB"),
        ("Streaming", f"An event has at most {streams.MAX_EVENT // MEBIBYTE} MiB, a `reply` "),
        ("Everything else", f"{replies.DEFAULT_PAUSE:g} s by default, {replies.LONGEST_PAUSE:g} s at most"),
        ("Everything else", f"within {gateway.CONNECT_WITHIN:g} s"),
        ("Everything else", f"after {['no', 'one', 'two', 'three'][MAX_DEATHS]} deaths"),
        ("Everything else", f"the turn timeout ({SessionClass('x').turn_timeout:g} s)"),
        ("Everything else", f"the first {replies.MAX_EXCERPT} characters"),
        ("Warm pods", f"{['no', 'one', 'two', 'three'][warm.MAX_STARTS]} at once"),
        ("The end", f"the grace period ({SessionClass('x').grace_period:g} s)"),
    ],
)
def test_numbers(title: str, words: str) -> None:
    assert words in section(title)


def test_the_helper_takes_every_message() -> None:
    """JSON makes up to six bytes of one."""
    assert wire.MAX_BODY > 6 * MAX_MESSAGE_BYTES
