"""Bad input on ADK's routes gets an error in ADK's form, nothing is stored of it, and the server goes on."""

from __future__ import annotations

import asyncio
import gc
import io
import json
import sys
import threading
from collections import Counter
from typing import Any
from uuid import uuid4

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings

from session_manager.aio.beside import AT_ONCE
from session_manager.api import chat
from session_manager.api import front as api_front
from session_manager.api.adk import artifacts, inputs, sessions
from session_manager.api.adk.artifacts import MAX_METADATA
from session_manager.api.adk.inputs import MAX_ADK_BODY, MAX_STATE_BODY, MOST_EVENTS
from session_manager.api.call import SMALL_BODY, read_body
from session_manager.api.errors import MOST_COUNTED
from session_manager.domain.adk.events import session_json
from session_manager.domain.json_bounds import MOST_VALUES
from session_manager.store.transactions.adk_rows import MOST_STATE
from tests.servers.front import front_door, settings_for
from tests.waiting import until

S = "/adk/apps/echo/users/ada/sessions"
ONE = f"{S}/one"


async def send(front, method: str, path: str, body: bytes) -> tuple[int, Any]:
    headers = {"Content-Type": "application/json"}
    async with front.client.request(method, front.url + path, data=io.BytesIO(body), headers=headers) as response:
        return response.status, await response.json()


NOT_JSON = [
    b"{",
    b'{"stateDelta": {"a": NaN}}',
    b'{"stateDelta": {"a": -Infinity}}',
    b'{"stateDelta": {"a": 1e999}}',
    b'{"stateDelta": {"a": 1' + b"0" * 400 + b".5}}",
    b'{"stateDelta": {"a": "\\ud800"}}',
    b'{"stateDelta": {"a": "\\u0000"}}',
    b'{"stateDelta": {"\\u0000": 1}}',
    b'{"stateDelta": {"a": ' + b"[" * 120 + b"]" * 120 + b"}}",
    b'{"stateDelta": {"a": ' + b"[" * 500 + b"]" * 500 + b"}}",
]


@pytest.mark.parametrize("body", NOT_JSON, ids=range(len(NOT_JSON)))
async def test_a_body_that_is_not_json(front, body):
    await front.call("POST", S, {"sessionId": "one"})
    status, answer = await send(front, "PATCH", ONE, body)
    assert (status, answer["detail"][0]["type"], answer["detail"][0]["loc"][0]) == (422, "json_invalid", "body")
    assert (await front.call("GET", ONE))[1]["state"] == {}


async def test_an_endless_number(front):
    await front.call("POST", S, {"sessionId": "one"})
    status, answer = await send(front, "PATCH", ONE, b'{"stateDelta": {"a": ' + b"9" * 5000 + b"}}")
    assert (status, set(answer)) == (400, {"detail"})


async def test_the_values_of_a_body_are_bounded(front):
    """Each value costs a little time of the one event loop: 8 MiB of brackets would take a minute."""
    await front.call("POST", S, {"sessionId": "one"})
    for body, times in ((b"[" * 90 + b"]" * 90, MOST_VALUES // 90 + 1), (b"{}", MOST_VALUES), (b"0", MOST_VALUES)):
        many = b'{"stateDelta": {"a": [' + b",".join([body] * times) + b"]}}"
        assert (await send(front, "PATCH", ONE, many))[0] == 413
    for events in (b'{"author":"a"},' * MOST_VALUES, b"[],{}," * MOST_VALUES):
        assert (await send(front, "POST", f"{ONE}/events", b'{"events":[' + events[:-1] + b"]}"))[0] == 413
    commas = {"stateDelta": {"text": "[{,}]" * MOST_VALUES, "numbers": [0] * (MOST_VALUES - 10)}}
    assert (await front.call("PATCH", ONE, commas))[0] == 200


async def test_errors_in_a_large_body_are_reported_briefly(front):
    await front.call("POST", S, {"sessionId": "one"})
    parts = [{"what": "x" * 50}] * 10_000
    event = {"author": "a", "content": {"parts": parts}}
    status, answer = await front.call("POST", f"{ONE}/events", {"event": event})
    assert status == 422
    assert answer["detail"][0]["loc"] == ["body", "event", "content", "parts", 0, "what"]
    assert len(json.dumps(answer)) < 10_000
    _, answer = await front.call("POST", f"{ONE}/events", {"event": {**event, "content": {"parts": parts[:1]}}})
    assert answer["detail"][0]["input"] == "x" * 50


async def test_the_size_of_state_is_bounded(ours):
    await ours.call("POST", S, {"sessionId": "one"})
    text = "x" * (MOST_STATE // 2)

    async def change(**delta: Any) -> tuple[int, Any]:
        event = {"author": "a", "actions": {"stateDelta": delta}}
        return await ours.call("POST", f"{ONE}/events", {"event": event})

    for prefix in ("", "user:", "app:"):
        assert (await change(**{f"{prefix}a": text}))[0] == 200
        status, answer = await change(**{f"{prefix}b": text, "n": 1})
        assert (status, set(answer)) == (400, {"detail"})
        assert (await change(**{f"{prefix}a": None}))[0] == 200
    assert (await ours.call("GET", ONE))[1]["state"] == {"a": None, "user:a": None, "app:a": None}


@pytest.mark.parametrize("path", [ONE, S], ids=["one", "list"])
async def test_a_large_session_is_shown_while_others_are_served(ours, monkeypatch, path):
    """A thread does it: megabytes take seconds, and there is one event loop."""
    threads: list[threading.Thread] = []

    def noting(*args: Any, **options: Any) -> bytes:
        threads.append(threading.current_thread())
        return session_json(*args, **options)

    monkeypatch.setattr(sessions, "session_json", noting)
    await ours.call("POST", S, {"sessionId": "one"})
    await ours.call("GET", path)
    assert set(threads) == {threading.main_thread()}
    await ours.call("PATCH", ONE, {"stateDelta": {"large": "x" * sessions.LARGE}})
    threads.clear()
    assert (await ours.call("GET", path))[0] == 200
    [thread] = threads
    assert thread is not threading.main_thread()


async def test_extreme_state_that_still_fits(ours):
    deep: Any = 1
    for _ in range(95):
        deep = [deep]
    state = {"deep": deep, "": 1, "a" * 1000: 1e15, "temp": 2, "app:": 3, "user:": 4, "x": "\u2028\u00e9\U0001f600"}
    await ours.call("POST", S, {"sessionId": "one"})
    assert (await ours.call("PATCH", ONE, {"stateDelta": state}))[0] == 200
    status, body = await ours.call("GET", ONE)
    assert (status, body["state"]) == (200, state)
    assert (await ours.call("GET", S))[1][0]["state"] == state


async def test_names_that_no_session_can_have(ours):
    for path in ("/adk/apps/a%00b/users/ada/sessions", "/adk/apps/echo/users/a%00b/sessions"):
        assert await ours.call("GET", path) == (200, [])
        assert (await ours.call("POST", path))[0] == 404
    assert (await ours.call("GET", f"{S}/a%00b"))[0] == 404
    assert (await ours.call("DELETE", f"{S}/a%00b")) == (200, None)
    for path, body in [
        (f"/adk/apps/{'a' * 129}/users/ada/sessions", {}),
        (f"/adk/apps/echo/users/{'a' * 129}/sessions", {}),
        ("/adk/apps/echo/users/%20ada/sessions", {}),
        (S, {"sessionId": "x" * 129}),
        (S, {"sessionId": "a\nb"}),
    ]:
        status, answer = await ours.call("POST", path, body)
        assert (status, set(answer)) == (400, {"detail"}), path
    assert (await ours.call("GET", f"{S}/{'x' * 5000}"))[0] == 404
    assert (await ours.call("POST", f"{S}", {"sessionId": "x" * 128}))[0] == 200
    assert (await ours.call("GET", f"{S}/%20{'x' * 128}%20"))[0] == 200


async def test_events_that_cannot_be_stored(ours):
    await ours.call("POST", S, {"sessionId": "one"})
    for event in (
        {"id": "x" * 129},
        {"invocationId": "x" * 257},
        {"timestamp": 1e300},
        {"timestamp": -1e300},
        {"timestamp": 2.0**33},  # from there on microseconds are all the same
    ):
        status, answer = await ours.call("POST", f"{ONE}/events", {"event": event})
        assert (status, set(answer)) == (400, {"detail"}), event
        assert (await ours.call("POST", S, {"sessionId": "two", "events": [event]}))[0] == 400
    assert (await ours.call("GET", ONE))[1]["events"] == []
    assert (await ours.call("GET", f"{S}/two"))[0] == 404


async def test_artifacts_that_cannot_be_stored(ours):
    await ours.call("POST", S, {"sessionId": "one"})
    path = f"{ONE}/artifacts"
    for name in ("", "a\nb", "x" * 1025):
        assert (await ours.call("POST", path, {"filename": name, "artifact": {"text": "x"}}))[0] == 400
    assert (await ours.call("GET", f"{path}/a%00b"))[0] == 404
    assert (await ours.call("GET", f"{path}/a%00b/versions"))[1] == []
    await ours.call("POST", path, {"filename": "a", "artifact": {"text": "x"}})
    for version in (2**31, 2**70, -1):
        assert (await ours.call("GET", f"{path}/a?version={version}"))[0] == 404
        assert (await ours.call("GET", f"{path}/a/versions/{version}/metadata"))[0] == 404
    uri = f"artifact://apps/echo/users/ada/sessions/one/artifacts/a/versions/{'9' * 5000}"
    body = {"filename": "endless", "artifact": {"fileData": {"fileUri": uri}}}
    assert (await ours.call("POST", path, body))[0] == 400
    uri = "artifact://apps/echo/users/ada/sessions/one/artifacts/loop/versions/0"
    body = {"filename": "loop", "artifact": {"fileData": {"fileUri": uri}}}
    assert (await ours.call("POST", path, body))[0] == 200
    assert (await ours.call("GET", f"{path}/loop"))[0] == 400


async def test_artifacts_keep_large_numbers(ours):
    await ours.call("POST", S, {"sessionId": "one"})
    large = {"n": 10**400, "m": 2**64}
    part = {"functionResponse": {"response": large}, "text": "x"}
    body = {"filename": "a", "artifact": part, "customMetadata": large}
    status, answer = await ours.call("POST", f"{ONE}/artifacts", body)
    assert (status, answer["customMetadata"]) == (200, large)
    assert await ours.call("GET", f"{ONE}/artifacts/a") == (200, part)
    assert (await ours.call("GET", f"{ONE}/artifacts/a/versions/metadata"))[1][0]["customMetadata"] == large


async def test_the_size_of_a_body_is_bounded(front):
    await front.call("POST", S, {"sessionId": "one"})
    text = "x" * (MAX_ADK_BODY - 200)
    path = f"{ONE}/artifacts"
    assert (await front.call("POST", path, {"filename": "a", "artifact": {"text": text}}))[0] == 200
    status, answer = await send(front, "POST", path, b" " * (MAX_ADK_BODY + 1))
    assert (status, set(answer)) == (413, {"detail"})


async def test_bodies_without_files_are_bounded_lower(front):
    await front.call("POST", S, {"sessionId": "one"})
    for method, path in (
        ("POST", S),
        ("POST", f"{S}/two"),
        ("PATCH", ONE),
        ("PATCH", f"{S.removesuffix('/sessions')}/memory"),
    ):
        assert (await send(front, method, path, b" " * (MAX_STATE_BODY + 1)))[0] == 413, path
    assert (await front.call("PATCH", ONE, {"stateDelta": {"a": "x" * (MAX_STATE_BODY - 200)}}))[0] == 200


async def test_the_events_of_a_body_are_bounded(front):
    await front.call("POST", S, {"sessionId": "one"})
    event = {"author": "a"}
    for path in (S, f"{ONE}/events"):
        status, answer = await front.call("POST", path, {"events": [event] * (MOST_EVENTS + 1)})
        assert (status, answer["detail"][0]["type"], answer["detail"][0]["loc"]) == (
            422,
            "too_long",
            ["body", "events"],
        )
    assert (await front.call("POST", f"{ONE}/events", {"events": [event] * MOST_EVENTS}))[0] == 200


async def test_the_metadata_of_an_artifact_is_bounded(front):
    await front.call("POST", S, {"sessionId": "one"})
    body = {"filename": "a", "artifact": {"text": "x"}, "customMetadata": {"a": "x" * MAX_METADATA}}
    assert (await front.call("POST", f"{ONE}/artifacts", body))[0] == 413
    assert (await front.call("GET", f"{ONE}/artifacts"))[1] == []


async def test_a_reference_to_an_artifact_is_bounded(front):
    """Looking for the parts of 8 MiB of an address would take half a second."""
    await front.call("POST", S, {"sessionId": "one"})
    uri = f"artifact://apps/{'a' * 8192}/users/ada/sessions/one/artifacts/a/versions/1"
    body = {"filename": "a", "artifact": {"fileData": {"fileUri": uri}}}
    status, answer = await front.call("POST", f"{ONE}/artifacts", body)
    assert (status, answer) == (400, {"detail": "artifact: the reference is not a valid artifact URI"})


@pytest.mark.parametrize("mistakes", [1, MOST_COUNTED, MOST_COUNTED + 1])
async def test_the_mistakes_in_a_large_body_are_counted_before_they_are_listed(front, mistakes: int):
    await front.call("POST", S, {"sessionId": "one"})
    content = {f"{'x' * 20}{number}": 1 for number in range(mistakes)}
    event = {"author": "a" * AT_ONCE, "content": content}
    status, answer = await front.call("POST", f"{ONE}/events", {"event": event})
    assert (status, len(answer["detail"])) == (422, min(mistakes, 50) if mistakes <= MOST_COUNTED else 1)
    expected = "extra_forbidden" if mistakes <= MOST_COUNTED else "too_many_errors"
    assert answer["detail"][0]["type"] == expected


@pytest.mark.parametrize("size", [100, AT_ONCE + 100], ids=["short", "long"])
async def test_a_long_body_is_read_checked_and_converted_beside_the_event_loop(front, monkeypatch, size: int):
    threads: set[tuple[str, bool]] = set()

    def note(module: Any, name: str) -> None:
        work = getattr(module, name)

        def noting(*args: Any, **options: Any) -> Any:
            threads.add((name, threading.current_thread() is threading.main_thread()))
            return work(*args, **options)

        monkeypatch.setattr(module, name, noting)

    await front.call("POST", S, {"sessionId": "one"})
    note(inputs, "from_json")
    note(sessions, "stored_event")
    note(artifacts, "to_json")
    note(chat, "checked_json")
    text = "x" * size
    event = {"author": "a", "content": {"parts": [{"text": text}]}}
    assert (await front.call("POST", f"{ONE}/events", {"event": event}))[0] == 200
    assert (await front.call("POST", S, {"events": [event]}))[0] == 200
    assert (await front.call("POST", f"{ONE}/artifacts", {"filename": "a", "artifact": {"text": text}}))[0] == 200
    await front.call("POST", f"/session/{uuid4()}/chat", {"message": text})
    assert {name for name, _ in threads} == {"from_json", "stored_event", "to_json", "checked_json"}
    assert {in_loop for _, in_loop in threads} == {size < AT_ONCE}


@pytest.mark.parametrize(
    "body", [b'{"a": [' + b"1," * 200_000 + b"1]}", b'{"a": "' + b"x" * 200_000], ids=["413", "422"]
)
async def test_a_refused_body_is_freed_at_once(front, monkeypatch, body: bytes):
    """The frames of an error refer to each other, and the garbage collector comes rarely."""
    bodies: list[bytes] = []

    async def read(*args: Any) -> bytes:
        bodies.append(await read_body(*args))
        return bodies[-1]

    monkeypatch.setattr(api_front, "read_body", read)
    gc.disable()
    try:
        assert (await send(front, "POST", S, body))[0] in {413, 422}
        await until(lambda: sys.getrefcount(bodies[0]) == 2)  # the list's, and that of the question
    finally:
        gc.enable()


async def test_a_large_body_of_a_service_is_counted_before_it_is_read(start):
    """Its user is in the body, but reading that takes long."""
    front = await start(session_api_keys="web:service-key-01234", rate_limit_default="2/hour")
    port = int(front.url.rpartition(":")[2])
    key = {"X-API-Key": "service-key-01234", "Content-Type": "application/json"}

    async def run(size: int, sent: int) -> bytes:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        head = f"POST /run HTTP/1.1\r\nHost: x\r\nContent-Length: {size}\r\n"
        writer.write((head + "".join(f"{name}: {value}\r\n" for name, value in key.items()) + "\r\n").encode())
        writer.write(b" " * sent)
        try:
            return await reader.readline()
        finally:
            writer.transport.abort()

    large = SMALL_BODY + 1
    assert [(await run(large, large))[9:12] for _ in range(2)] == [b"422", b"422"]
    assert (await run(large, 0))[9:12] == b"429"  # at once
    assert (await run(SMALL_BODY, SMALL_BODY))[9:12] == b"422"


async def test_a_body_for_another_user_is_not_read(start):
    front = await start(session_api_keys="web@ada:a-key-of-ada-01234")
    reader, writer = await asyncio.open_connection("127.0.0.1", int(front.url.rpartition(":")[2]))
    head = "POST /adk/apps/echo/users/bob/sessions HTTP/1.1\r\nHost: x\r\nX-API-Key: a-key-of-ada-01234\r\n"
    writer.write((head + "Content-Type: application/json\r\nContent-Length: 900000\r\n\r\n").encode())
    assert b" 404 " in await reader.readline()
    writer.transport.abort()


async def test_limits(start):
    front = await start(rate_limit_create="2/hour", rate_limit_delete="1/hour")
    assert [(await front.call("POST", S))[0] for _ in range(3)] == [200, 200, 429]
    async with front.client.post(front.url + S.removeprefix("/adk")) as response:
        assert (response.status, set(await response.json())) == (429, {"detail"})
        assert 1 <= int(response.headers["Retry-After"]) <= 3600
    assert (await front.call("POST", "/session/create", {"user_id": "ada"}))[0] == 429
    assert [(await front.call("DELETE", ONE))[0] for _ in range(2)] == [200, 429]


async def test_a_services_limits_are_those_of_its_users(start):
    front = await start(session_api_keys="web:service-key-01234", rate_limit_create="1/hour")
    key = {"X-API-Key": "service-key-01234"}
    paths = ["/apps/echo/users/ada/sessions", "/apps/echo/users/bob/sessions", "/apps/other/users/ada/sessions"]
    assert [(await front.call("POST", path, headers=key))[0] for path in paths] == [200, 200, 429]


async def test_without_redis(tmp_path, own_redis):
    """Stored data can be read, and nothing is made that would have to be counted."""
    limits = {"rate_limit_create": "9/minute", "rate_limit_default": "999/minute"}
    async with front_door(settings_for(tmp_path, own_redis.url, **limits)) as front:
        await front.call("POST", S, {"sessionId": "one"})
        own_redis.stop()
        status, answer = await front.call("POST", S, {"sessionId": "two"})
        assert (status, set(answer)) == (503, {"detail"})
        assert (await front.call("GET", ONE))[0] == 200
        assert len((await front.call("GET", S))[1]) == 1


async def test_nothing_crashes_the_server(front):
    await front.call("POST", S, {"sessionId": "one"})
    tried = await asyncio.to_thread(_attack, front.url)
    assert not {status for status in tried if status >= 500}, tried
    assert (await front.call("GET", "/readyz"))[0] == 200


def _attack(url: str) -> Counter[int]:
    """Send requests for each operation except the turns, as the document allows them."""
    schema = schemathesis.openapi.from_url(f"{url}/adk/openapi.json")
    tried: Counter[int] = Counter()
    for result in schema.exclude(path_regex="/run").get_all_operations():
        operation: Any = result.ok()  # type: ignore[union-attr]
        _requests_for(operation, tried)()
    return tried


def _requests_for(operation: Any, tried: Counter[int]) -> Any:
    known = {"app_name": "echo", "user_id": "ada", "session_id": "one"}

    @given(case=operation.as_strategy())
    @settings(
        max_examples=6,
        deadline=None,
        derandomize=True,
        database=None,
        suppress_health_check=list(HealthCheck),
        phases=[Phase.generate],
    )
    def attack(case: Any) -> None:
        if operation.method != "delete":
            case.path_parameters.update({name: known[name] for name in known.keys() & (case.path_parameters or {})})
        response = case.call(timeout=30)
        tried[response.status_code] += 1
        assert response.status_code < 500, (operation.label, json.dumps(str(case.body))[:500], response.text)

    return attack
