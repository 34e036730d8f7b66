"""The server of a pod: whose it is, and what it acts with."""

from __future__ import annotations

import subprocess
import sys
import uuid
from pathlib import Path
from typing import Any

import httpx
import pytest
from google.adk.apps.app import App

from session_manager.adk.client import credentials
from session_manager.adk.server import AnyName, PodApp, build
from tests.servers.adk import AGENTS

SESSION, OTHER = str(uuid.uuid4()), str(uuid.uuid4())


async def says_its_credentials(scope: Any, receive: Any, send: Any) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": credentials("a-key").__repr__().encode()})


async def ask(app: PodApp, **headers: str) -> httpx.Response:
    transport = httpx.ASGITransport(app=app)
    async with httpx.AsyncClient(transport=transport, base_url="http://pod") as client:
        return await client.get(
            "/list-apps", headers={name.replace("_", "-"): value for name, value in headers.items()}
        )


@pytest.mark.parametrize("own", [SESSION, None], ids=["named", "the first"])
async def test_a_pod_serves_one_session(own: str | None):
    app = PodApp(says_its_credentials, own)
    assert (await ask(app)).status_code == 200
    assert (await ask(app, X_Session_Id=SESSION)).status_code == 200
    assert (await ask(app, X_Session_Id=OTHER)).status_code == 421
    assert (await ask(app, X_Session_Id=SESSION)).status_code == 200


async def test_a_turn_uses_its_own_token_and_leaves_none_behind():
    app = PodApp(says_its_credentials, SESSION)
    first = await ask(app, X_Session_Token="one")
    assert first.text == "{'X-Session-Token': 'one'}"
    assert first.headers["X-Session-Events"] == "stored"
    assert (await ask(app, X_Session_Token="two")).text == "{'X-Session-Token': 'two'}"
    assert (await ask(app)).text == "{'Authorization': 'Bearer a-key'}"
    assert credentials(None) == {}


def test_without_adk_the_last_output_says_what_to_install():
    code = "import sys; sys.modules['google.adk'] = None; import session_manager.adk"
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert ended.returncode == 1
    assert "needs the extra adk: install Session Manager with it, pip install '.[adk]'" in ended.stderr.splitlines()[-1]


@pytest.mark.filterwarnings("ignore:.*EXPERIMENTAL")
@pytest.mark.parametrize(
    ("agent", "words"),
    [
        ("raise RuntimeError('no key for the model')", "no key for the model"),
        ("", "root_agent"),
        (None, "no agent in"),
    ],
    ids=["raises", "empty", "none"],
)
def test_an_agent_that_cannot_be_loaded_does_not_start(tmp_path: Path, agent: str | None, words: str):
    folder = tmp_path / f"unloadable_{uuid.uuid4().hex}"
    folder.mkdir()
    if agent is not None:
        (folder / "agent.py").write_text(agent)
    with pytest.raises((RuntimeError, ValueError, FileNotFoundError), match=words):
        build(str(folder), SESSION, None, None)


@pytest.mark.parametrize("agents", [AGENTS, AGENTS / "tester"])
def test_the_only_agent_is_served_under_any_name(agents: Path):
    loader = AnyName(str(agents))
    assert loader.list_agents() == ["tester"]
    for name in ("tester", "no identifier, 1", "my-class"):
        loaded = loader.load_agent(name)
        assert isinstance(loaded, App)
        assert loaded.name == "tester"
