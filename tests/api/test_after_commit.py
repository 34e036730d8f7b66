"""A 503 promises that nothing was committed, whatever happens to the database after the commit."""

from __future__ import annotations

from typing import Any

import pytest

from tests.store.after_commit import Failing

ADK = "/adk/apps/default/users/ada/sessions"
EVENT = {"author": "user", "content": {"parts": [{"text": "hello"}]}}
ROUTES: dict[str, Any] = {
    "POST /session/create": {"user_id": "ada"},
    "PATCH /session/{session}": {"name": "new"},
    "POST /session/{session}/wake": None,
    "POST /session/{session}/sleep": None,
    "POST /session/{session}/messages/{message}/cancel": None,
    "DELETE /session/{session}": None,
    f"POST {ADK}": {"state": {"n": 1}},
    f"POST {ADK}/new": {"n": 1},
    f"PATCH {ADK}/{{session}}": {"stateDelta": {"n": 2}},
    f"DELETE {ADK}/{{session}}": None,
    f"POST {ADK}/{{session}}/events": {"event": EVENT},
    f"POST {ADK}/{{session}}/artifacts": {"filename": "a", "artifact": {"text": "x"}},
    f"DELETE {ADK}/{{session}}/artifacts/a": None,
    "PATCH /adk/apps/default/users/ada/memory": {"sessionId": "{session}"},
}


@pytest.mark.parametrize("route", ROUTES)
async def test_no_503_after_a_commit(start: Any, route: str) -> None:
    front = await start(repair_interval=60.0)
    session = await front.create()
    waiting = []
    if "cancel" in route:
        await front.chat(session, "sleep 5", wait=0)
        waiting.append((await front.chat(session, "later", wait=0))[1]["message_id"])
    method, path = route.format(session=session, message=waiting[0] if waiting else "").split(" ")
    body = {"sessionId": session} if path.endswith("/memory") else ROUTES[route]
    failing = Failing(front.services.store)
    status, answer = await front.call(method, path, body)
    committed = failing.committed
    failing.end()
    assert committed == (not path.endswith("/sleep")), answer
    assert status < 300, answer
