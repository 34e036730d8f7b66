"""ADK's own client of its server works with a front door, on both engines and under both base URLs."""

from __future__ import annotations

import httpx
import pytest
from google.adk.cli.conformance.adk_web_server_client import AdkWebServerClient


@pytest.fixture(params=["/adk", ""])
async def client(request, ours):
    async with AdkWebServerClient(ours.url + request.param) as client:
        yield client


WHO = {"app_name": "echo", "user_id": "ada"}


async def test_sessions(client):
    made = await client.create_session(**WHO, state={"a": {"b_c": None}, "user:n": 1, "temp:t": 2})
    assert (made.state, made.events) == ({"a": {"b_c": None}, "user:n": 1}, [])
    assert await client.get_session(**WHO, session_id=made.id) == made
    changed = await client.update_session(**WHO, session_id=made.id, state_delta={"a": None, "app:x": [1], "temp:t": 3})
    assert changed.state == {"a": None, "user:n": 1, "app:x": [1], "temp:t": 3}
    assert [event.actions.state_delta for event in changed.events] == [{"a": None, "app:x": [1]}]
    assert changed.last_update_time > made.last_update_time
    other = await client.create_session(**WHO)
    assert other.state == {"user:n": 1, "app:x": [1]}
    await client.delete_session(**WHO, session_id=made.id)
    with pytest.raises(httpx.HTTPStatusError, match="404"):
        await client.get_session(**WHO, session_id=made.id)
    await client.delete_session(**WHO, session_id=made.id)


async def test_artifacts(client, ours):
    session = await client.create_session(**WHO)
    names = {"session_id": session.id, "artifact_name": "notes.txt"}
    for text in ("one", "two"):
        body = {"filename": "notes.txt", "artifact": {"text": text}, "customMetadata": {"a_b": None}}
        prefix = "/adk" if client.base_url.endswith("/adk") else ""
        path = f"{prefix}/apps/echo/users/ada/sessions/{session.id}/artifacts"
        assert (await ours.call("POST", path, body))[0] == 200
    found = await client.list_artifact_versions_metadata(**WHO, **names)
    assert [(each.version, each.mime_type, each.custom_metadata) for each in found] == [
        (0, "text/plain", {"a_b": None}),
        (1, "text/plain", {"a_b": None}),
    ]
    assert await client.get_artifact_version_metadata(**WHO, **names, version=1) == found[1]
    assert (await ours.call("GET", f"{path}/notes.txt"))[1] == {"text": "two"}
    assert (await ours.call("GET", f"{path}/notes.txt?version=0"))[1] == {"text": "one"}


async def test_version(ours):
    async with AdkWebServerClient(f"{ours.url}/adk") as client:
        assert set(await client.get_version_data()) == {"version", "language", "language_version"}
