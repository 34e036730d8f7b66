"""The commands and programs in docs/quickstart.md work."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from session_manager.client import Client

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "quickstart.md").read_text("utf-8")


def block(begins: str) -> str:
    """Return the code block that begins with this text."""
    [found] = re.findall(rf"^```\w+\n({re.escape(begins)}.*?)^```", PAGE, re.M | re.S)
    return str(found)


@pytest.mark.skipif(shutil.which("curl") is None, reason="needs curl")
def test_the_quick_start(start):
    front = start(SESSION_CLASSES="", IDLE_TIMEOUT="0.5")
    script = block("URL=").replace("http://127.0.0.1:8080", front.url)
    asleep = f"""until curl -s {front.url}/session/$ID | grep -q '"status":"sleeping"'; do sleep 0.05; done; """
    script = re.sub(r"\bsleep \d+; ", lambda _: asleep, script)
    command = ["bash", "-ec", f"curl() {{ command curl -w '\\n' \"$@\"; }}\n{script}"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=50, check=True)
    chat, awake, asleep_, woken, sleep, deleted = [json.loads(line) for line in done.stdout.splitlines()]
    assert chat["pod_response"] == {"reply": "You said: Hello"}
    assert [awake["status"], asleep_["status"]] == ["awake", "sleeping"]
    assert [woken["action"], sleep["action"], deleted["status"]] == ["wake", "sleep", "terminated"]


def test_an_agent_in_ten_lines(start, tmp_path):
    agent = block("# agent.py")
    assert len([line for line in agent.splitlines() if line]) <= 10
    (tmp_path / "agent.py").write_text(agent)
    (tmp_path / "classes.yaml").write_text(block("# classes.yaml"))
    front = start(SESSION_CLASSES="classes.yaml")
    session = front.create("mine")
    assert front.chat(session, "Hello") == "ada, you said Hello"
    assert agent in (ROOT / "README.md").read_text("utf-8")


def test_the_client_in_python(start, capsys):
    front = start()
    exec(block("from session_manager.client").replace('"http://127.0.0.1:8080"', f"{front.url!r}"), {"Client": Client})
    assert capsys.readouterr().out == "{'reply': 'You said: Hello'}\n"
