"""Runs the commands of docs/migration.md."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from google.adk.events import Event, EventActions
from google.adk.sessions import InMemorySessionService
from google.adk.sessions.sqlite_session_service import SqliteSessionService
from typer.testing import CliRunner

from session_manager.cli.app import app
from tests.store.databases import opened as running

PAGE = (Path(__file__).parents[2] / "docs" / "migration.md").read_text("utf-8")


async def test_from_memory(tmp_path: Path):
    [code] = re.findall(r"```python\n(.*?)```", PAGE, re.S)
    names: dict[str, Any] = {}
    exec(compile(code, "migration.md", "exec"), names)
    old = InMemorySessionService()
    for user in ("ann", "bob"):
        state = {"plain": 1, "app:shared": 2, "user:own": user}
        session = await old.create_session(app_name="weather", user_id=user, session_id="one", state=state)
        for number in range(3):
            actions = EventActions(state_delta={"count": number})
            await old.append_event(session, Event(author="user", invocation_id=str(number), actions=actions))
    path = tmp_path / "sessions.db"
    async with running(path) as store:
        new = SqliteSessionService(str(path))
        assert await names["move"](old, new, ["weather"]) == 2
        assert await names["move"](old, new, ["weather"]) == 0
        for user in ("ann", "bob"):
            there = await old.get_session(app_name="weather", user_id=user, session_id="one")
            here = await new.get_session(app_name="weather", user_id=user, session_id="one")
            assert there is not None
            assert here is not None
            assert (here.state, here.events) == (there.state, there.events)
        await store.ping()


def test_the_documented_commands_exist():
    for page in ("migration", "SESSION_DATABASE_CONFIG", "production-checklist"):
        text = (Path(__file__).parents[2] / "docs" / f"{page}.md").read_text("utf-8")
        for group, command in set(re.findall(r"session-manager (db|backup) ([a-z]+)", text)):
            assert CliRunner().invoke(app, [group, command, "--help"]).exit_code == 0, (group, command)
