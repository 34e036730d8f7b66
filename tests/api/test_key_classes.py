"""A key that KEY_CLASSES names sees and uses only those SessionClasses; the others do not exist for it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
import yaml
from starlette.types import ASGIApp

from session_manager.api.front import build_app
from session_manager.api.limits import Limit
from session_manager.api.rules import RULES, Audience, Door, Rule
from session_manager.domain.access import Right
from session_manager.domain.errors import StartupFailure
from session_manager.settings import Settings
from tests.api.conftest import CLASSES
from tests.api.test_rules import ask, body_of
from tests.servers.front import FrontDoor

ALL, FEW, ADA = "service-key-0123456789", "another-key-0123456789", "adas-own-key-0123456789"
KEYS = f"all:{ALL},few:{FEW},few@ada:{ADA}"
HIDDEN = "broken"
CALLERS = [
    pytest.param({"authorization": f"Bearer {FEW}"}, id="service"),
    pytest.param({"authorization": f"Bearer {FEW}", "x-user-id": "ada"}, id="service for the owner"),
    pytest.param({"authorization": f"Bearer {ADA}"}, id="owner"),
]
AS_ALL = {"authorization": f"Bearer {ALL}"}


@pytest.fixture
async def door(start: Any) -> FrontDoor:
    return await start(session_api_keys=KEYS, key_classes="few:default, few:short")


@pytest.fixture
def app(door: FrontDoor) -> ASGIApp:
    return build_app(door.services)


async def made(app: ASGIApp, session_class: str) -> str:
    body = json.dumps({"user_id": "ada", "class": session_class}).encode()
    status, answer = await ask(app, "POST", "/session/create", AS_ALL, body)
    assert status == 201
    return str(answer["uuid"])


def path_of(rule: Rule, prefix: str, session: str) -> str:
    values = {"app_name": HIDDEN, "user_id": "ada", "session_id": session, "message_id": str(uuid4())}
    values |= {"name": "20260131T120000Z-4f2a9c01", "artifact_name": "a.txt", "version_id": "0"}
    return (prefix + rule.path.replace(":path", "")).format(**values)


@pytest.mark.parametrize("headers", CALLERS)
async def test_every_route_answers_as_if_a_session_of_another_class_did_not_exist(
    app: ASGIApp, headers: dict[str, str]
):
    session = await made(app, HIDDEN)
    tried = 0
    for rule in RULES:
        for prefix in {Door.OURS: [""], Door.ADK: ["", "/adk"], Door.ADK_ONLY: ["/adk"]}[rule.door]:
            path = path_of(rule, prefix, session)
            body = body_of(rule, session).replace(b'"appName": "default"', b'"appName": "%b"' % HIDDEN.encode())
            if "{app_name}" in rule.path:
                tried += 1
                status, answer = await ask(app, rule.method, path, headers, body)
                assert (status, answer) == (rule.unknown.status, json.loads(rule.unknown.body)), path
            elif isinstance(rule.who, Right):
                tried += 1
                assert (await ask(app, rule.method, path, headers, body))[0] == 404, path
            elif rule.who is Audience.ADMINS:
                assert (await ask(app, rule.method, path, headers, body))[0] == 403, path
    assert tried > 50
    _, found = await ask(app, "GET", f"/session/{session}", AS_ALL)
    assert (found["queue_length"], found["name"], found["status"]) == (0, None, "created")


@pytest.mark.parametrize("headers", CALLERS)
async def test_lists_leave_other_classes_out(app: ASGIApp, headers: dict[str, str]):
    seen = await made(app, "default")
    await made(app, HIDDEN)
    for path in ("/sessions", f"/sessions?app={HIDDEN}", "/sessions?user_id=ada", "/sessions?status=created"):
        status, answer = await ask(app, "GET", path.partition("?")[0], headers, query=path.partition("?")[2])
        assert status == 200
        wanted = 0 if "app=" in path else 1
        assert (answer["total"], [each["uuid"] for each in answer["sessions"]]) == (wanted, [seen] * wanted), path
    assert (await ask(app, "GET", "/adk/list-apps", headers, query=""))[1] == ["default", "short"]
    assert HIDDEN in (await ask(app, "GET", "/adk/list-apps", AS_ALL, query=""))[1]


@pytest.mark.parametrize("headers", CALLERS)
async def test_another_class_is_unknown_like_one_that_does_not_exist(app: ASGIApp, headers: dict[str, str]):
    answers = []
    for name in (HIDDEN, "nothing"):
        body = json.dumps({"user_id": "ada", "class": name}).encode()
        status, answer = await ask(app, "POST", "/session/create", headers, body)
        answers.append((status, answer["detail"].replace(name, "…")))
    assert answers == [(400, "unknown class '…'; known classes: default, short")] * 2
    body = json.dumps({"user_id": "ada", "class": "short"}).encode()
    assert (await ask(app, "POST", "/session/create", headers, body))[0] == 201


@pytest.mark.parametrize("headers", CALLERS)
async def test_its_own_classes_work_as_before(app: ASGIApp, door: FrontDoor, headers: dict[str, str]):
    session = await made(app, "default")
    status, answer = await ask(app, "POST", f"/session/{session}/chat", headers, b'{"message": "hello"}')
    assert status == 202, answer
    path = "/adk/apps/any/users/ada/sessions"  # an app without a class of its name has the default class
    assert (await ask(app, "POST", path, headers, b"{}"))[0] == 200
    assert (await ask(app, "GET", f"/adk/apps/default/users/ada/sessions/{session}", headers, query=""))[0] == 200


async def test_a_key_without_the_default_class_makes_no_session_of_an_unknown_app(start: Any):
    door = await start(session_api_keys=KEYS, key_classes="few:short")
    app, headers = build_app(door.services), {"authorization": f"Bearer {FEW}"}
    assert (await ask(app, "POST", "/adk/apps/any/users/ada/sessions", headers, b"{}"))[0] == 404
    assert (await ask(app, "POST", "/adk/apps/short/users/ada/sessions", headers, b"{}"))[0] == 200
    status, answer = await ask(app, "POST", "/session/create", headers, b'{"user_id": "ada"}')
    assert (status, answer["detail"]) == (400, "unknown class 'default'; known classes: short")


async def test_a_service_of_some_classes_does_not_look_after_the_installation(app: ASGIApp):
    _, answer = await ask(app, "GET", "/health", {"authorization": f"Bearer {FEW}"})
    assert answer["session_storage_uri"] == "sqlite"


@pytest.mark.parametrize(
    ("written", "reason"),
    [
        ("nobody:default", 'KEY_CLASSES: unknown key "nobody"; expected the name of a key in SESSION_API_KEYS'),
        ("few", "KEY_CLASSES: invalid list of classes"),
        ("few:", "KEY_CLASSES: invalid list of classes"),
        ("few:*", "KEY_CLASSES: invalid list of classes"),
        ("few:Default", "KEY_CLASSES: invalid list of classes"),
        ("few@ada:default", "KEY_CLASSES: invalid list of classes"),
    ],
)
def test_bad_values_end_the_start(written: str, reason: str):
    with pytest.raises(StartupFailure) as failure:
        Settings.from_environment(session_api_keys=KEYS, key_classes=written)
    assert str(failure.value).startswith(reason)


@pytest.mark.parametrize("headers", CALLERS)
async def test_the_sessions_of_a_removed_class_still_do_not_exist_for_other_keys(
    start: Any, tmp_path: Path, headers: dict[str, str]
):
    app = build_app((await start(session_api_keys=KEYS)).services)
    session = await made(app, HIDDEN)
    user = f"/adk/apps/{HIDDEN}/users/ada"
    ours = f"{user}/sessions/{session}"
    event = {"id": "e", "author": "user", "content": {"parts": [{"text": "secret"}]}}
    writes = {
        ("POST", f"{ours}/events"): {"event": event},
        ("POST", f"{ours}/artifacts"): {"filename": "a.txt", "artifact": {"text": "secret"}},
        ("PATCH", f"{user}/memory"): {"sessionId": session},
        ("PATCH", ours): {"stateDelta": {"n": 1}},
    }
    bodies = {place: json.dumps(body).encode() for place, body in writes.items()}
    for (method, path), body in bodies.items():
        assert (await ask(app, method, path, AS_ALL, body))[0] == 200, path
    fewer = tmp_path / "fewer.yaml"
    known = yaml.safe_load(CLASSES.read_text())["classes"]
    fewer.write_text(json.dumps({"classes": [each for each in known if each["name"] != HIDDEN]}))
    without = await start(session_api_keys=KEYS, key_classes="few:default", session_classes=fewer)
    app = build_app(without.services)
    kept = await ask(app, "GET", ours, AS_ALL, query="")
    tried = 0
    for rule in RULES:
        path = path_of(rule, "/adk", session)
        if (path.startswith(ours) or (rule.method, path) in bodies) and rule.limit is not Limit.CREATE:
            tried += 1
            answer = await ask(app, rule.method, path, headers, bodies.get((rule.method, path)), query="")
            assert answer == (rule.unknown.status, json.loads(rule.unknown.body)), (rule.method, path)
    assert tried == 13
    for path in (f"/adk/apps/{HIDDEN}/sessions", f"{user}/sessions"):
        assert await ask(app, "GET", path, headers, query="") == (200, [])
        assert len((await ask(app, "GET", path, AS_ALL, query=""))[1]) == 1
    search = ("GET", f"{user}/memory")
    assert (await ask(app, *search, headers, query="query=secret"))[1] == {"memories": []}
    assert len((await ask(app, *search, AS_ALL, query="query=secret"))[1]["memories"]) == 1
    run = {"appName": HIDDEN, "userId": "ada", "sessionId": session, "newMessage": {"parts": [{"text": "hello"}]}}
    assert (await ask(app, "POST", "/adk/run", headers, json.dumps(run).encode()))[0] == 404
    assert await ask(app, "GET", ours, AS_ALL, query="") == kept
    assert kept[1]["state"] == {"n": 1}
    assert (await ask(app, "GET", f"{ours}/artifacts", AS_ALL, query=""))[1] == ["a.txt"]
