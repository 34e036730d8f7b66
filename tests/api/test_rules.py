"""The table of routes, walked: each route with callers of every kind, and the order of the checks.

A route that is added to the table is tried here without another line, unless it needs a body to be valid.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from typing import Any
from uuid import uuid4

import pytest
from starlette.types import ASGIApp

from session_manager.aio.ids import new_id
from session_manager.api import pages, rules
from session_manager.api.front import build_app
from session_manager.api.rules import RULES, Audience, Door, Rule
from session_manager.api.table import table
from session_manager.domain.access import EVERYTHING, Right
from session_manager.domain.errors import NotTheWriter
from session_manager.domain.message import NewMessage
from tests.servers.front import FrontDoor

SERVICE, ADA, EVE = "service-key-0123456789", "adas-own-key-0123456789", "eves-own-key-0123456789"
KEYS = f"web:{SERVICE},ada-app@ada:{ADA},eve-app@eve:{EVE}"
AS_ADA = {"authorization": f"Bearer {ADA}"}
STRANGERS = [
    pytest.param({"authorization": f"Bearer {EVE}"}, id="bound"),
    pytest.param({"authorization": f"Bearer {SERVICE}", "x-user-id": "eve"}, id="acting"),
]
NAMELESS = [
    pytest.param({}, id="none"),
    pytest.param({"authorization": "Bearer no-such-key-0123456789"}, id="unknown"),
    pytest.param({"x-api-key": "nor-this-0123456789"}, id="unknown, in the other header"),
]
# What a route needs to be asked for Ada's session; the others take no body or an empty one.
BODIES: dict[tuple[str, str], Any] = {
    ("POST", "/session/create"): {"user_id": "ada"},
    ("PATCH", rules.SESSION): {"name": "theirs"},
    ("POST", f"{rules.SESSION}/chat"): {"message": "hello"},
    ("POST", "/run"): {"appName": "default", "userId": "ada", "sessionId": "{session_id}"},
    ("POST", "/run_sse"): {"appName": "default", "userId": "ada", "sessionId": "{session_id}"},
}


def doors(wanted: Any = lambda rule: True) -> Iterator[Any]:
    """Every route that is ``wanted``, at each place where it is."""
    for rule in filter(wanted, RULES):
        for prefix in {Door.OURS: [""], Door.ADK: ["", "/adk"], Door.ADK_ONLY: ["/adk"]}[rule.door]:
            yield pytest.param(rule, prefix, id=f"{rule.method} {prefix}{rule.path}")


def path_of(rule: Rule, prefix: str, session: str) -> str:
    values = {"app_name": "default", "user_id": "ada", "session_id": session, "message_id": str(uuid4())}
    values |= {"name": "20260131T120000Z-4f2a9c01", "artifact_name": "a.txt", "version_id": "0"}
    return (prefix + rule.path.replace(":path", "")).format(**values)


def body_of(rule: Rule, session: str) -> bytes:
    body = BODIES.get((rule.method, rule.path), {} if rule.body else None)
    return b"" if body is None else json.dumps(body).replace("{session_id}", session).encode()


class Unread(Exception):
    """The body was read."""


async def ask(
    app: ASGIApp, method: str, path: str, headers: dict[str, str], body: bytes | None = b"", query: str = "query=x"
) -> tuple[int, Any]:
    """Return status and JSON. A ``body`` of None must not be read."""
    raw = [(name.encode(), value.encode()) for name, value in {"content-type": "application/json", **headers}.items()]
    scope = {"type": "http", "method": method, "path": path, "query_string": query.encode(), "headers": raw}
    sent: list[Any] = []

    async def receive() -> dict[str, Any]:
        if body is None:
            raise Unread
        await asyncio.sleep(0)
        if len(sent) > 1:
            return {"type": "http.disconnect"}
        return {"type": "http.request", "body": body, "more_body": False}

    async def send(message: Any) -> None:
        sent.append(message)

    await app({**scope, "client": ("127.0.0.1", 1), "asgi": {"spec_version": "2.4"}}, receive, send)
    content = b"".join(message.get("body", b"") for message in sent)
    kind = dict(sent[0]["headers"]).get(b"content-type", b"")
    return sent[0]["status"], json.loads(content) if content and b"json" in kind else content


@pytest.fixture
async def guarded(start: Any) -> FrontDoor:
    return await start(session_api_keys=KEYS)


@pytest.fixture
def app(guarded: FrontDoor) -> ASGIApp:
    return build_app(guarded.services)


@pytest.fixture
async def session(guarded: FrontDoor) -> str:
    _, body = await guarded.call("POST", "/session/create", {"user_id": "ada"}, headers=AS_ADA)
    return str(body["uuid"])


def test_a_path_leads_to_its_rule_and_no_rule_is_hidden_by_another():
    for parameters in doors():
        rule, prefix = parameters.values
        assert table().find(rule.method, path_of(rule, prefix, str(uuid4())))[0] is rule, parameters.id
    assert len({(rule.method, rule.path, rule.adk) for rule in RULES}) == len(RULES)


def test_only_routes_that_list_it_take_a_turns_token():
    taking = {(rule.method, rule.path) for rule in RULES if rule.pods}
    assert taking == {("GET", rules.ADK_SESSION), ("POST", f"{rules.ADK_SESSION}/events")}


def test_only_open_routes_are_answered_without_a_key():
    paths = {prefix + rule.path for rule, prefix in (each.values for each in doors(lambda rule: rule.anonymous))}
    ours = {"/livez", "/readyz", "/health", "/docs", "/openapi.json", *(f"/docs/{name}" for name in pages.FILES)}
    assert paths == ours | {"/adk/health", "/adk/docs", "/adk/openapi.json"}


def test_what_reads_or_changes_data_has_a_limit():
    assert {rule.path for rule in RULES if rule.limit is None} <= {
        rule.path for rule in RULES if rule.who is Audience.OPEN
    }


@pytest.mark.parametrize("headers", NAMELESS)
async def test_without_a_key(app: ASGIApp, session: str, headers: dict[str, str]):
    """401 and not a byte of the body is read, but for open routes and what does not exist there."""
    for rule, prefix in (each.values for each in doors()):
        status, _ = await ask(app, rule.method, path_of(rule, prefix, session), headers, None)
        assert (status == 401) is not rule.anonymous, (rule.method, prefix + rule.path, status)
    for path in ("/nothing", "/adk/nothing", "/apps/nothing", "/session", "/adk"):
        assert (await ask(app, "POST", path, headers, None))[0] == 401, path
    assert (await ask(app, "POST", "/adk/health", headers, None))[0] == 405


@pytest.mark.parametrize(
    "headers",
    [
        pytest.param({"authorization": f"Bearer {ADA}", "x-api-key": ADA}, id="a key twice"),
        pytest.param({"authorization": f"Bearer {ADA}", "x-api-key": EVE}, id="two keys"),
        pytest.param({"authorization": "Basic YTpi", "x-api-key": ADA}, id="a password and a key"),
        pytest.param({"authorization": f"Bearer {ADA}", "x-session-token": "t"}, id="a key and a token"),
        pytest.param({"x-api-key": ADA, "x-session-token": "t"}, id="a key and a token, in the other header"),
    ],
)
async def test_two_credentials_are_refused(app: ASGIApp, session: str, headers: dict[str, str]):
    """A proxy in front may have looked at the other one."""
    for rule, prefix in (each.values for each in doors()):
        status, _ = await ask(app, rule.method, path_of(rule, prefix, session), headers, None)
        assert status == 400, path_of(rule, prefix, session)


@pytest.mark.parametrize("headers", STRANGERS)
async def test_a_stranger_gets_the_answers_of_what_does_not_exist(app: ASGIApp, session: str, headers: dict[str, str]):
    for rule, prefix in (each.values for each in doors()):
        path = path_of(rule, prefix, session)
        status, answer = await ask(app, rule.method, path, headers, body_of(rule, session))
        if "{user_id}" in rule.path:
            assert (status, answer) == (rule.unknown.status, json.loads(rule.unknown.body)), path
        elif isinstance(rule.who, Right):
            assert status == 404, path
        elif rule.user_in_body or rule.who is Audience.ADMINS:
            assert status == 403, path
        else:
            assert status == 200, (path, answer)
    status, found = await ask(app, "GET", f"/session/{session}", AS_ADA)
    assert (status, found["queue_length"], found["name"]) == (200, 0, None)


@pytest.mark.parametrize("headers", [AS_ADA, {"authorization": f"Bearer {SERVICE}"}, *STRANGERS])
async def test_a_method_that_no_route_has_is_405_for_every_key(app: ASGIApp, session: str, headers: dict[str, str]):
    for rule, prefix in (each.values for each in doors()):
        path = path_of(rule, prefix, session)
        assert (await ask(app, "PUT", path, headers, None))[0] == 405, path


async def test_a_turns_token_opens_its_session_on_routes_that_list_it(app: ASGIApp, guarded: FrontDoor, session: str):
    accepted = await guarded.services.store.accept(NewMessage(new_id(), session, "hello", "web"), EVERYTHING)
    await guarded.services.tokens.load()
    token = guarded.services.tokens.mint(session, accepted.message.id, 1, 60.0)
    other = guarded.services.tokens.mint(str(uuid4()), accepted.message.id, 1, 60.0)
    for rule, prefix in (each.values for each in doors()):
        path = path_of(rule, prefix, session)
        body = b'{"event":{"author":"a"}}' if rule.pods else None
        status, _ = await ask(app, rule.method, path, {"x-session-token": token}, body)
        assert status == (200 if rule.pods else 403), path
        status, _ = await ask(app, rule.method, path, {"x-session-token": other}, b'{"event":{"author":"a"}}')
        assert status == 403, path


async def test_another_instance_has_the_data(app: ASGIApp, guarded: FrontDoor, session: str, monkeypatch: Any):
    """503 before anything is asked of the caller, but for health and metrics."""

    async def away(method: str) -> None:
        raise NotTheWriter

    monkeypatch.setattr(app, "admit", away)
    for rule, prefix in (each.values for each in doors()):
        for headers in ({}, AS_ADA):
            status, _ = await ask(app, rule.method, path_of(rule, prefix, session), headers, None)
            assert (status == 503) is rule.admitted, (rule.method, prefix + rule.path, status)


@pytest.mark.parametrize("headers", [AS_ADA, {"authorization": f"Bearer {SERVICE}", "x-user-id": "ada"}, {}])
async def test_a_request_over_its_limit_is_not_read(start: Any, headers: dict[str, str]):
    """429 whatever its body, which stays unread, and before the store is asked for anything."""
    limits = {f"rate_limit_{name}": "1/hour" for name in ("create", "chat", "wake", "delete", "default")}
    guarded = await start(**({"session_api_keys": KEYS} if headers else {}), **limits)
    app, session = build_app(guarded.services), str(uuid4())
    headers = {"host": "localhost", **headers}
    for rule, prefix in (each.values for each in doors(lambda rule: rule.limit is not None)):
        if rule.who is Audience.ADMINS and "authorization" in headers:
            continue
        path = path_of(rule, prefix, session)
        await ask(app, rule.method, path, headers, b"{")
        assert (await ask(app, rule.method, path, headers, None))[0] == 429, path


async def test_a_service_is_limited_by_the_user_in_the_body_before_the_store_is_asked(start: Any, monkeypatch: Any):
    guarded = await start(session_api_keys=KEYS, rate_limit_chat="1/hour", rate_limit_create="1/hour")
    app, headers = build_app(guarded.services), {"authorization": f"Bearer {SERVICE}"}

    async def untouched(*args: Any) -> None:
        raise AssertionError

    for number, (rule, prefix) in enumerate(each.values for each in doors(lambda rule: rule.user_in_body)):
        body = body_of(rule, str(uuid4()))
        await ask(app, rule.method, prefix + rule.path, headers, body)
        with monkeypatch.context() as patch:
            patch.setattr(guarded.services.store, "adk_record", untouched)
            patch.setattr(guarded.services.store, "create_session", untouched)
            assert (await ask(app, rule.method, prefix + rule.path, headers, body))[0] == 429
        other = body.replace(b"ada", b"bob%d" % number)
        assert (await ask(app, rule.method, prefix + rule.path, headers, other))[0] in {201, 404}


@pytest.mark.parametrize("headers", [{}, AS_ADA])
@pytest.mark.parametrize("path", ["/", "/sessions", "/nothing", "/adk/nothing"])
async def test_a_websocket_passes_the_gate_too(
    app: ASGIApp, guarded: FrontDoor, path: str, headers: Any, monkeypatch: Any
):
    admitted: list[str] = []

    async def admit(method: str) -> None:
        admitted.append(method)

    monkeypatch.setattr(app, "admit", admit)
    raw = [(name.encode(), value.encode()) for name, value in headers.items()]
    sent: list[Any] = []

    async def receive() -> Any:
        raise Unread

    async def send(message: Any) -> None:
        sent.append(message)

    await app({"type": "websocket", "path": path, "headers": raw, "client": None}, receive, send)
    assert [message["type"] for message in sent] == ["websocket.close"]
    assert admitted == ["WEBSOCKET"]


async def test_a_server_that_asks_for_a_lifespan_gets_one(app: ASGIApp):
    sent: list[Any] = []
    asked = iter(["lifespan.startup", "lifespan.shutdown"])

    async def receive() -> Any:
        return {"type": next(asked)}

    async def send(message: Any) -> None:
        sent.append(message["type"])

    await app({"type": "lifespan"}, receive, send)
    assert sent == ["lifespan.startup.complete", "lifespan.shutdown.complete"]


@pytest.mark.parametrize("headers", [AS_ADA, {"authorization": f"Bearer {SERVICE}"}])
async def test_head_is_answered_like_get_without_a_body(app: ASGIApp, session: str, headers: dict[str, str]):
    for rule, prefix in (each.values for each in doors(lambda rule: rule.method == "GET")):
        path = path_of(rule, prefix, session)
        status, content = await asyncio.wait_for(ask(app, "HEAD", path, headers), 10)
        assert content == b"" or status >= 400, path
        assert status == (await ask(app, "GET", path, headers))[0] if "/events" not in path else 200, path
    for path in ("/docs", "/openapi.json", "/health", "/adk/docs", "/adk/openapi.json"):
        assert (await ask(app, "HEAD", path, {}))[0] == 200, path
    for path in ("/nothing", "/session/create/more", f"{path_of(RULES[0], '', session)}"):
        assert (await ask(app, "HEAD", path, headers))[0] in {404, 405}, path


async def test_allow_has_all_methods_of_a_path_and_options_says_the_same(app: ASGIApp, session: str):
    """A path of several routes, such as a session's, has the methods of all of them."""
    methods: dict[str, set[str]] = {}
    for rule, prefix in (each.values for each in doors()):
        taken = {rule.method, "HEAD"} if rule.method == "GET" else {rule.method}
        methods.setdefault(path_of(rule, prefix, session), {"OPTIONS"}).update(taken)
    for path, expected in methods.items():
        for method, wanted in (("PUT", 405), ("OPTIONS", 204)):
            sent = await start_of(app, method, path, AS_ADA)
            allowed = set(dict(sent["headers"])[b"allow"].decode().split(", "))
            assert sent["status"] == wanted, path
            assert expected <= allowed if "/artifacts/" in path or "create" in path else expected == allowed, path
        assert (await start_of(app, "OPTIONS", path, {}))["status"] in {401, 204}
    assert (await start_of(app, "OPTIONS", f"/session/{session}", {}))["status"] == 401
    assert (await start_of(app, "OPTIONS", "*", AS_ADA))["status"] == 404


async def start_of(app: ASGIApp, method: str, path: str, headers: dict[str, str]) -> Any:
    sent: list[Any] = []
    scope: dict[str, Any] = {"type": "http", "method": method, "path": path}
    scope["headers"] = [(b"content-type", b"application/json")]
    scope["headers"] += [(name.encode(), value.encode()) for name, value in headers.items()]

    async def receive() -> Any:
        raise Unread

    async def send(message: Any) -> None:
        sent.append(message)

    await app({**scope, "client": ("127.0.0.1", 1)}, receive, send)
    return sent[0]
