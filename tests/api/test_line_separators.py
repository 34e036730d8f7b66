"""Characters at which some clients split lines, though neither JSON nor server-sent events do, arrive escaped."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
import requests

TEXT = "a\u2028b\u2029c\x85d\u00e9"


def lines_of(method: str, url: str, body: Any) -> list[Any]:
    """Return the data of the events, up to the end of the turn, as a client of ``requests`` reads them."""
    headers = {"Accept": "text/event-stream"}
    found: list[Any] = []
    with requests.request(method, url, json=body, headers=headers, stream=True, timeout=30) as answer:
        answer.encoding = "utf-8"
        for line in answer.iter_lines(decode_unicode=True):
            if line.startswith("data: "):
                found.append(json.loads(line.removeprefix("data: ")))
                if "finished_at" in found[-1]:
                    break
    return found


@pytest.mark.parametrize("route", ["chat", "events", "run_sse"])
async def test_a_client_that_splits_lines_at_them_reads_whole_json(front, route):
    async with front.client.post(f"{front.url}/apps/default/users/ada/sessions", json={}) as created:
        adk, session = (await created.json())["id"], created.headers["X-Session-Id"]
    message = f"stream {TEXT} {TEXT}"
    content = {"role": "user", "parts": [{"text": message}]}
    run = {"appName": "default", "userId": "ada", "sessionId": adk, "newMessage": content, "streaming": True}
    if route == "chat":
        found = await asyncio.to_thread(lines_of, "POST", f"{front.url}/session/{session}/chat", {"message": message})
    elif route == "events":
        reading = asyncio.to_thread(lines_of, "GET", f"{front.url}/session/{session}/events", None)
        found, _ = await asyncio.gather(reading, front.chat(session, message))
    else:
        found = await asyncio.to_thread(lines_of, "POST", f"{front.url}/run_sse", run)
    assert TEXT in json.dumps(found[-1], ensure_ascii=False)
