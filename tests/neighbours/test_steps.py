"""The steps of the event loop that take longest, over the requests that make a front door work most."""

from __future__ import annotations

import io
import json
from typing import Any

import pytest

from tests.servers.front import front_door, settings_for
from tests.slices import slices

pytestmark = [pytest.mark.faults, pytest.mark.timeout(300)]

TOO_LONG = 0.2  # seconds of processor time; a step should take a tenth of that, and is printed from there on
SHOWN = 0.02
USER = "/apps/echo/users/ada"
SESSIONS = f"{USER}/sessions"
ONE = f"{SESSIONS}/one"
MANY: list[dict[str, Any]] = [{}] * 90_000


def event(**fields: Any) -> dict[str, Any]:
    return {"author": "a", **fields}


def run(*parts: Any) -> dict[str, Any]:
    return {"appName": "echo", "userId": "ada", "sessionId": "one", "newMessage": {"parts": parts}}


BLOB = {"inlineData": {"mimeType": "a/b", "data": "QUJD" * 1_900_000}}
CREDENTIAL = {"authType": "serviceAccount", "serviceAccount": {"serviceAccountCredential": {"z": MANY[:10_000]}}}
ASKED = {"requestedAuthConfigs": {"a": {"authScheme": {"type": "x"}, "rawAuthCredential": CREDENTIAL}}}
REQUESTS: list[tuple[str, str, Any]] = [
    ("POST", SESSIONS, {"sessionId": "one"}),
    ("POST", "/session/{id}/chat", {"message": "," * 2**20}),
    ("POST", "/session/{id}/chat", {"message": "x", "z": MANY}),
    ("POST", "/session/{id}/chat", {"message": "x", "z": [{}] * 2_000_000}),
    ("GET", "/session/{id}/messages?limit=500", None),
    ("POST", f"{ONE}/events", {"events": [event(customMetadata={"a": MANY[:150]})] * 500}),
    ("POST", f"{ONE}/events", {"events": [{}] * 500}),
    ("POST", f"{ONE}/events", {"event": event(actions={"stateDelta": {"a": MANY}})}),
    ("POST", f"{ONE}/events", {"event": event(content={str(number): 1 for number in range(9_000)})}),
    ("POST", f"{ONE}/events", {"event": event(actions=ASKED)}),
    ("POST", SESSIONS, {"state": {str(number): number for number in range(60_000)}}),
    ("PATCH", ONE, {"stateDelta": {f"user:{number}": 1 for number in range(60_000)}}),
    ("GET", ONE, None),
    ("GET", SESSIONS, None),
    ("GET", f"{USER}/state", None),
    ("PATCH", f"{USER}/memory", {"sessionId": "one"}),
    ("GET", f"{USER}/memory?query=a&limit=100", None),
    ("POST", f"{ONE}/artifacts", {"filename": "a", "artifact": BLOB}),
    ("GET", f"{ONE}/artifacts/a", None),
    ("POST", "/run", run({"text": "x"}, BLOB)),
    ("POST", "/run_sse", run({"text": "x" * 1_000_000})),
    ("DELETE", ONE, None),
]


async def test_no_step_of_the_event_loop_takes_long(tmp_path, redis_url: str):
    settings = settings_for(tmp_path, redis_url, rate_limit_create="off", rate_limit_default="off")
    worst = 0.0
    async with front_door(settings) as front:
        session = await front.create()
        for method, path, body in REQUESTS:
            sent = io.BytesIO(json.dumps(body, separators=(",", ":")).encode())
            options: dict[str, Any] = {"data": sent, "headers": {"Content-Type": "application/json"}} if body else {}
            with slices(SHOWN) as found:
                async with front.client.request(method, front.url + path.format(id=session), **options) as response:
                    await response.read()
            steps = [each for each in found.worst() if "aiohttp" not in each[1]]
            for took, where in steps:
                print(f"{took * 1000:6.1f} ms  {method} {path} {response.status}: {where}")
            worst = max([worst, *(took for took, _ in steps)])
    assert worst < TOO_LONG
