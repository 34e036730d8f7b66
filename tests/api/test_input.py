"""Bad input gets a clear error, and nothing is stored of it."""

from __future__ import annotations

import io
import json

import pytest

MIB = 1024 * 1024


JSON = {"Content-Type": "application/json"}


async def post(front, path: str, body: bytes, **headers: str) -> tuple[int, dict]:
    async with front.client.post(front.url + path, data=io.BytesIO(body), headers=JSON | headers) as response:
        assert response.headers["content-type"].startswith("application/"), await response.text()
        return response.status, await response.json(content_type=None)


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"", 400),
        (b"   ", 400),
        (b"{", 400),
        (b"\xff\xfe", 400),
        (b"null", 400),
        (b"[]", 400),
        (b'"text"', 400),
        (b"{}", 400),
        (b'{"message": null}', 400),
        (b'{"message": 7}', 400),
        (b'{"message": ["a"]}', 400),
        (b'{"message": ""}', 400),
        (b'{"message": "a\\u0000b"}', 400),
        (b'{"message": "ok", "other": {"deep": ["\\u0000"]}}', 400),
        (b'{"message": "ok", "\\u0000": 1}', 400),
        (b'{"message": "ok", "deep": ' + b"[" * 1000 + b'"\\u0000"' + b"]" * 1000 + b"}", 400),
        (b'{"message": "ok", "deep": ' + b"[" * 90_000 + b"]" * 90_000 + b"}", 400),
        (b'{"message": "ok", "deep": ' + b"[" * 100_000 + b"]" * 100_000 + b"}", 413),
        (b'{"message": "x", "z": [' + b",".join([b"{}"] * 2_000_000) + b"]}", 413),
        (b'{"message": "x", "z": ' + b"1" * 6_000_000 + b"}", 413),
        (b'{"message": "\\ud800"}', 400),
        (b'{"message": "' + b"x" * (2 * MIB) + b'"}', 413),
        (b'{"message": "' + "ä".encode() * (MIB // 2 + 1) + b'"}', 413),
        (b"x" * (8 * MIB), 413),
    ],
)
async def test_rejected_messages(front, body, status):
    session = await front.create()
    answer, problem = await post(front, f"/session/{session}/chat", body)
    assert answer == status
    assert problem["status"] == status
    assert problem["detail"]
    assert (await front.call("GET", f"/session/{session}/messages"))[1]["messages"] == []


@pytest.mark.parametrize(
    "text",
    ["x", "\t\r\n", "äöü 🎉", "x" * MIB, "," * MIB, '{"' * (MIB // 2), '"\\', "\u202e\u0007", "ignored: unknown"],
)
async def test_accepted_messages_come_back_as_they_were(front, text):
    session = await front.create()
    body = json.dumps({"message": text, "unknown": 1}).encode()
    status, answer = await post(front, f"/session/{session}/chat", body, Prefer="wait=20")
    assert status == 200, answer
    assert text in answer["pod_response"]["reply"]
    _, listed = await front.call("GET", f"/session/{session}/messages")
    assert listed["messages"][0]["message"] == text


@pytest.mark.parametrize("user_id", [None, "", "  ", 7, ["ada"], "a\nb", "x" * 129, "\u200b"])
async def test_rejected_user_ids_name_the_field(front, user_id):
    status, problem = await front.call("POST", "/session/create", {"user_id": user_id})
    assert status == 400
    assert problem["field"] == "user_id"
    assert "user_id" in problem["detail"]


async def test_rejected_creations(front):
    for body in (
        {},
        {"user_id": "ada", "class": "no-such"},
        {"user_id": "ada", "class": "../x"},
        {"user_id": "ada", "name": ""},
    ):
        status, problem = await front.call("POST", "/session/create", body)
        assert (status, problem["status"]) == (400, 400), body
    assert (await front.call("GET", "/sessions"))[1]["total"] == 0


async def test_a_user_id_is_not_trimmed_and_unknown_fields_are_ignored(front):
    status, body = await front.call("POST", "/session/create", {"user_id": "  ada  "})
    assert (status, body["detail"]) == (400, "user_id: must not begin or end with a space")
    status, body = await front.call("POST", "/session/create", {"user_id": "ada", "unknown": True})
    assert (status, body["user_id"]) == (201, "ada")


@pytest.mark.parametrize(
    "path",
    [
        "/session/not-a-uuid",
        "/session/3f2b8a52-6f0e-1c53-9a0e-5c8f3f0f8d11",
        "/session/%00",
        "/sessions?limit=0",
        "/sessions?limit=501",
        "/sessions?limit=x",
        "/sessions?cursor=none",
        "/sessions?cursor=W10",
        "/sessions?cursor=WyJhIiwiYiJd",
        "/sessions?status=asleep",
    ],
)
async def test_rejected_paths_and_queries(front, path):
    status, problem = await front.call("GET", path)
    assert (status, problem["status"]) == (400, 400)
    assert problem["detail"]


async def test_rejected_headers(front):
    session = await front.create()
    for headers in (
        {"Prefer": "wait=soon"},
        {"Prefer": "wait=-1"},
        {"Idempotency-Key": ""},
        {"Idempotency-Key": "k" * 256},
    ):
        status, _ = await front.call("POST", f"/session/{session}/chat", {"message": "x"}, headers=headers)
        assert status == 400, headers
    for number in ("x", "-1", "9" * 30, "1-", "1-x", "1-1-1", "¹"):
        status, _ = await front.call("GET", f"/session/{session}/events", headers={"Last-Event-ID": number})
        assert status == 400, number


async def test_unknown_paths_and_methods_are_problems_too(front):
    session = await front.create()
    for method, path, expected in [
        ("GET", "/nothing", 404),
        ("PUT", f"/session/{session}", 405),
        ("GET", f"/session/{session}/chat", 405),
        ("DELETE", "/sessions", 405),
    ]:
        async with front.client.request(method, front.url + path) as response:
            assert response.status == expected
            assert response.content_type == "application/problem+json"
            assert (await response.json(content_type=None))["detail"]


async def test_limits_answer_429_with_retry_after(start):
    front = await start(rate_limit_create="2/minute", rate_limit_chat="1/minute", rate_limit_wake="1/minute")
    session = await front.create()
    await front.create()
    for method, path, body in [
        ("POST", "/session/create", {"user_id": "ada"}),
        ("POST", f"/session/{session}/wake", None),
        ("POST", f"/session/{session}/chat", {"message": "x"}),
    ]:
        statuses = []
        for _ in range(2):
            async with front.client.request(method, front.url + path, json=body) as response:
                statuses.append(response.status)
        assert statuses[-1] == 429, path
        assert 1 <= int(response.headers["Retry-After"]) <= 61
        assert response.content_type == "application/problem+json"


async def test_limits_are_shared_by_front_doors(start):
    one, two = await start(rate_limit_chat="2/minute"), await start(rate_limit_chat="2/minute")
    session = await one.create()
    statuses = [(await door.chat(session, "x", wait=0))[0] for door in (one, two, one, two)]
    assert [status == 429 for status in statuses] == [False, False, True, True]
