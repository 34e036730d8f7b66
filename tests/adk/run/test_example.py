"""The example of an ADK agent does what its page says."""

from __future__ import annotations

import pytest

from tests.adk.run.conftest import begin, texts

pytestmark = pytest.mark.asyncio(loop_scope="module")


async def test_notes_are_kept_for_the_user(door):
    adk = await begin(door, "example")
    assert texts(await adk.run("notes")) == ["Nothing yet. Say: note milk"]
    assert texts(await adk.run("note milk")) == ["Noted, as number 1."]
    status, answer = await door.chat(adk.uuid, "note bread")
    assert (status, answer["pod_response"]["reply"]) == (200, "Noted, as number 2.")
    pieces = await adk.run_sse("notes", streaming=True)
    assert texts(pieces) == ["1. milk\n", "2. bread\n", "1. milk\n2. bread\n"]
    other = await begin(door, "example")
    assert (await other.get())["state"] == {"user:notes": ["milk", "bread"]}
