"""For callers a conversation continues after a copy from SQLite to PostgreSQL, and after a merge."""

from __future__ import annotations

from pathlib import Path

from pydantic import SecretStr

from session_manager.databases.copying import Copier
from session_manager.databases.merging import Merger
from session_manager.databases.opening import opened
from tests.servers.front import front_door, settings_for


async def test_a_conversation_moves(tmp_path: Path, redis_url: str, postgres_uri: str):
    async with front_door(settings_for(tmp_path, redis_url)) as front:
        session = await front.create()
        assert (await front.chat(session, "one"))[0] == 200
    path = tmp_path / "sessions.db"
    async with opened(path, read_only=True) as old, opened(postgres_uri, read_only=False) as new:
        await Copier(old, new).copy()
    on_postgres = settings_for(tmp_path, redis_url, session_db_uri=SecretStr(postgres_uri))
    async with front_door(on_postgres) as front:
        assert (await front.chat(session, "two"))[0] == 200
        _, page = await front.call("GET", f"/session/{session}/messages")
        assert [message["message"] for message in page["messages"]] == ["one", "two"]
        _, adk = await front.call(
            "GET", f"/adk/apps/default/users/ada/sessions/{session}", headers={"X-User-Id": "ada"}
        )
        assert adk["id"] == session


async def test_a_conversation_of_another_machine_is_merged_while_the_front_door_runs(tmp_path: Path, redis_url: str):
    there = tmp_path / "there"
    there.mkdir()
    async with front_door(settings_for(there, redis_url)) as front:
        session = await front.create()
        assert (await front.chat(session, "one"))[0] == 200
    async with front_door(settings_for(tmp_path, redis_url)) as front:
        assert (await front.call("GET", f"/session/{session}"))[0] == 404
        async with (
            opened(there / "sessions.db", read_only=True) as old,
            opened(tmp_path / "sessions.db", read_only=False) as new,
        ):
            assert (await Merger(old, new).merge()).conflicts == []
        status, answer = await front.chat(session, "two")
        assert (status, answer["status"]) == (200, "processed")
