"""The same requests to a front door and to a real ``adk api_server``: the same statuses and the same JSON.

Where they part, the request says why, and docs/adk.md too.
"""

from __future__ import annotations

import json
from typing import Any, NamedTuple
from uuid import uuid4

import aiohttp
import pytest

APP = "/apps/APP"  # another one for each test: their server lives for several
S = f"{APP}/users/ada/sessions"
E = f"{APP}/users/eve/sessions"
ONE = f"{S}/one"
ART = f"{ONE}/artifacts"
TEXT = {"content": {"parts": [{"text": "hi"}], "role": "user"}, "author": "user"}
CALL = {"function_call": {"name": "look", "args": {"a_b": None}, "id": "c"}}
BYTES = {"inlineData": {"mimeType": "image/png", "data": "_wD--w=="}}


class Ask(NamedTuple):
    """One request. ``body``: JSON, or raw bytes. ``differs``: the reason, if the answers are not the same."""

    method: str
    path: str
    body: Any = None
    headers: tuple[tuple[str, str], ...] = ()
    differs: str = ""


EVENTS = [
    {"id": "e2", "timestamp": 12.5, "invocationId": "i", "author": "tester", "turn_complete": True, "unknown": 1},
    TEXT,
    {"author": "tester", "content": {"role": "model", "parts": [CALL, BYTES, {"text": "x", "thought": True}]}},
    {"author": "tester", "partial": True, "content": {"parts": [{"text": "never kept"}]}},
    {"author": "tester", "errorCode": "E", "errorMessage": "broken", "customMetadata": {"a": {"b_c": None}}},
    {"author": "tester", "customMetadata": {"__adk_internal_x": 1}},
    {"author": "tester", "usageMetadata": {"promptTokenCount": 3}, "groundingMetadata": {"webSearchQueries": ["q"]}},
    {"message": "short", "author": "user", "node_path": "a/b"},
]
REFUSED = [
    {"actions": {"nope": 1}},
    {"actions": None},
    {"content": {"parts": [{"txt": "x"}]}},
    {"content": {"parts": [{"text": 5}]}},
    {"content": "text"},
    {"author": None},
    {"timestamp": "soon"},
    {"content": {"parts": [{"inlineData": {"data": "$$$"}}]}},
    {"longRunningToolIds": 5},
    {"cacheMetadata": {"fingerprint": "f"}},
]
NOT_AT_FIRST = [
    {"longRunningToolIds": ["x"]},
    {"actions": {"stateDelta": {"a": 1}}},
    {"actions": {"escalate": False}},
    {"content": {"parts": [{"functionCall": {"name": "adk_request_credential"}}]}},
    {"content": {"parts": [{"functionResponse": {"name": "adk_request_input"}}]}},
]
REQUESTS = [
    Ask("GET", "/health"),
    Ask("GET", "/version"),
    Ask("GET", "/list-apps", differs="ours are the SessionClasses"),
    Ask("GET", "/apps/nobody/app-info"),
    # Making
    Ask("POST", S),
    Ask("POST", S, b"null"),
    Ask("POST", S, {}),
    Ask(
        "POST",
        S,
        {"session_id": " one ", "state": {"a": None, "b_c": {"d_e": 1}, "app:x": 1, "user:y": 2, "temp:z": 3}},
    ),
    Ask("POST", S, {"sessionId": "one", "state": {"never": 1, "app:never": 1}}),
    Ask("POST", S, {"sessionId": "  "}),
    Ask("POST", S, {"sessionId": "two", "unknown": 1, "options": {}}),
    Ask("POST", S, {"sessionId": "two-options", "options": {"what": 1}}),
    Ask("POST", S, {"sessionId": "two-options", "options": {"state": 1}}),
    Ask("POST", S, {"sessionId": 5}),
    Ask("POST", S, {"state": []}),
    Ask("POST", S, {"events": {}}),
    Ask("POST", S, []),
    Ask("POST", S, b"{"),
    Ask("POST", S, b"", (("Content-Type", "application/json"),)),
    Ask("POST", S, b'{"sessionId": "plain"}', (("Content-Type", "text/plain"),), "415 for what is not JSON"),
    Ask("POST", f"{S}/by-path", {"a": 1, "temp:b": 2}),
    Ask("POST", f"{S}/by-path-2", {"state": {"a": 1}}),
    Ask("POST", f"{S}/by-path-3"),
    Ask("POST", f"{S}/by-path-4", [1]),
    Ask("POST", f"{S}/by-path", {}),
    *(Ask("POST", E, {"sessionId": f"e{number}", "events": [event]}) for number, event in enumerate(EVENTS)),
    *(Ask("GET", f"{E}/e{number}") for number in range(len(EVENTS))),
    Ask("POST", E, {"sessionId": "all", "events": EVENTS}),
    Ask("GET", f"{E}/all"),
    *(Ask("POST", S, {"sessionId": "refused", "events": [event]}) for event in [*REFUSED, *NOT_AT_FIRST]),
    Ask("GET", f"{S}/refused"),
    # Reading
    Ask("GET", ONE),
    Ask("GET", f"{S}/nobody"),
    Ask("GET", "/apps/other/users/ada/sessions/one"),
    Ask("GET", f"{APP}/users/bob/sessions/one"),
    Ask("GET", S),
    Ask("GET", f"{APP}/users/bob/sessions"),
    Ask("GET", "/apps/other/users/ada/sessions"),
    Ask("GET", f"{S}/"),
    Ask("GET", f"{ONE}/"),
    Ask("GET", f"{S}/with%2Fslash"),
    Ask("POST", S, {"sessionId": "adk-eval-session-1"}),
    Ask("GET", S),
    # Changing
    Ask("PATCH", ONE, {"stateDelta": {"a": 1, "user:y": None, "temp:t": 1, "new": {"x_y": [None]}}}),
    Ask("PATCH", ONE, {"state_delta": {}}),
    Ask("PATCH", ONE, {}),
    Ask("PATCH", ONE, {"stateDelta": None}),
    Ask("PATCH", ONE),
    Ask("PATCH", ONE, b"nope"),
    Ask("PATCH", f"{S}/nobody", {"stateDelta": {}}),
    Ask("GET", ONE),
    # Artifacts
    Ask("GET", ART),
    Ask("POST", ART, {"filename": "a.txt", "artifact": {"text": "one"}}),
    Ask("POST", ART, {"filename": "a.txt", "artifact": {"text": "two"}, "custom_metadata": {"k_k": None}}),
    Ask("POST", ART, {"filename": "b/c.png", "artifact": BYTES}),
    Ask("POST", ART, {"filename": "user:all.txt", "artifact": {"text": "of the user"}}),
    Ask("POST", ART, {"filename": "file", "artifact": {"fileData": {"fileUri": "gs://b/o", "mimeType": "text/x"}}}),
    Ask("POST", ART, {"filename": "x", "artifact": {}}),
    Ask("POST", ART, {"filename": "x", "artifact": {"functionCall": {"name": "f"}}}),
    Ask("POST", ART, {"filename": "x", "artifact": {"nope": 1}}),
    Ask("POST", ART, {"filename": "x", "artifact": "text"}),
    Ask("POST", ART, {"artifact": {"text": "x"}}),
    Ask("POST", ART, {"filename": "x", "artifact": {"fileData": {"fileUri": "artifact://nonsense"}}}),
    Ask(
        "POST",
        ART,
        {
            "filename": "x",
            "artifact": {"fileData": {"fileUri": "artifact://apps/APP/users/bob/artifacts/user:x/versions/0"}},
        },
    ),
    Ask(
        "POST",
        ART,
        {
            "filename": "link",
            "artifact": {
                "fileData": {"fileUri": "artifact://apps/APP/users/ada/sessions/one/artifacts/a.txt/versions/1"}
            },
        },
    ),
    Ask(
        "POST",
        ART,
        {"filename": "gone", "artifact": {"inlineData": {"mimeType": "application/octet-stream", "data": ""}}},
    ),
    Ask("GET", ART),
    *(
        Ask("GET", f"{ART}/{path}")
        for path in [
            "a.txt",
            "a.txt?version=0",
            "a.txt?version=7",
            "a.txt?version=-1",
            "a.txt?version=x",
            "a.txt/versions",
            "a.txt/versions/0",
            "a.txt/versions/latest",
            "a.txt/versions/x",
            "a.txt/versions/9",
            "a.txt/versions/metadata",
            "a.txt/versions/0/metadata",
            "a.txt/versions/latest/metadata",
            "a.txt/versions/9/metadata",
            "a.txt/versions/x/metadata",
            "b/c.png",
            "b/c.png/versions",
            "user:all.txt",
            "file",
            "link",
            "link/versions/latest/metadata",
            "gone",
            "nothing",
            "nothing/versions",
            "nothing/versions/metadata",
            "nothing/versions/latest/metadata",
        ]
    ),
    Ask("GET", f"{S}/two/artifacts"),
    Ask("GET", f"{S}/two/artifacts/user:all.txt"),
    Ask("DELETE", f"{ART}/a.txt"),
    Ask("DELETE", f"{ART}/a.txt"),
    Ask("GET", f"{ART}/a.txt"),
    Ask("GET", ART),
    # Memory
    Ask("PATCH", f"{APP}/users/eve/memory", {"sessionId": "all"}),
    Ask("PATCH", f"{APP}/users/ada/memory", {"session_id": "nobody"}),
    Ask("PATCH", f"{APP}/users/ada/memory", {}),
    # Wrong methods and unknown paths
    *(Ask(method, ONE, differs="Allow has all methods") for method in ("PUT", "HEAD", "OPTIONS")),
    Ask("DELETE", S, differs="Allow has all methods"),
    Ask("PATCH", S, {}, differs="Allow has all methods"),
    Ask("POST", "/list-apps", differs="Allow has all methods"),
    Ask("GET", APP),
    Ask("GET", f"{APP}/users/ada"),
    Ask("GET", "/nothing"),
    # Ending
    Ask("DELETE", ONE),
    Ask("DELETE", ONE),
    Ask("GET", ONE),
    Ask("GET", ART, differs="artifacts of a session end with it"),
    Ask("POST", S, {"sessionId": "one"}),
]
MADE = {"id", "timestamp", "lastUpdateTime", "createTime", "canonicalUri", "version", "language_version"}


@pytest.mark.parametrize(("ours", "prefix"), [("sqlite", "/adk"), ("postgresql", "")], indirect=["ours"])
async def test_same_answers(ours, theirs, prefix):
    """The test shows all differences at once, since the requests build on each other."""
    differences = []
    app = f"app-{uuid4()}"
    async with aiohttp.ClientSession() as client:
        for ask in REQUESTS:
            if not prefix and not ask.path.startswith(("/apps/", "/list-apps")):
                continue  # at the root these are ours
            here = await _answer(client, ours.url + prefix, ask, app)
            there = await _answer(client, theirs, ask, app)
            if (here == there) == bool(ask.differs):
                differences.append(f"{ask}\n  here  {here}\n  there {there}")
    assert not differences, "\n".join(differences)


async def _answer(client: aiohttp.ClientSession, url: str, ask: Ask, app: str) -> tuple[Any, ...]:
    raw = ask.body if isinstance(ask.body, bytes) else json.dumps(ask.body).encode() if ask.body is not None else None
    raw = raw.replace(b"/APP/", f"/{app}/".encode()) if raw else raw
    headers = ({"Content-Type": "application/json"} if raw else {}) | dict(ask.headers)
    async with client.request(
        ask.method,
        url + ask.path.replace("/APP", f"/{app}"),
        data=raw,
        headers=headers,
        allow_redirects=False,
        skip_auto_headers=["Content-Type"],
    ) as response:
        text = await response.text()
        kind = response.headers.get("content-type")
        location = response.headers.get("location", "").removeprefix(url)
        body = _shape(json.loads(text)) if text and kind == "application/json" else text
        return response.status, kind, response.headers.get("allow"), location, body


def _shape(value: Any) -> Any:
    """Return the value without what differs between calls, and without the wording of errors."""
    if isinstance(value, list):
        return [_shape(each) for each in value]
    if not isinstance(value, dict):
        return value
    shape = {name: type(each).__name__ if name in MADE else _shape(each) for name, each in value.items()}
    if isinstance(value.get("detail"), str):
        shape["detail"] = "words"
    if {"type", "loc", "msg"} <= value.keys():
        return {"type": _kind(value["type"]), "loc": value["loc"]}
    if isinstance(value.get("invocationId"), str):
        shape["invocationId"] = value["invocationId"][:2]
    return shape


def _kind(name: str) -> str:
    """Return one name for models and for our own objects, which look the same to a client."""
    return "object" if name in {"model_type", "model_attributes_type", "dict_type"} else name
