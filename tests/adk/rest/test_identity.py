"""Routes with a caller that does not act for the user in the path: the answers are those of an unknown user."""

from __future__ import annotations

import pytest

from tests.servers.front import FrontDoor

KEYS = {"service": "service-key-01234", "bob@bob": "bobs-own-key-01234", "ada@ada": "adas-own-key-01234"}
S = "/apps/echo/users/ada/sessions"
ONE = f"{S}/one"
ART = f"{ONE}/artifacts"
USER = "/apps/echo/users/ada"
NO_SESSION = (404, {"detail": "Session not found"})
NO_ARTIFACT = (404, {"detail": "Artifact not found"})
# Every route with a user in its path, and the answer that another user gets.
AS_A_STRANGER = [
    ("POST", S, {}, NO_SESSION),
    ("POST", S, {"sessionId": "two", "state": {"app:x": "taken over", "user:y": "taken over"}}, NO_SESSION),
    ("POST", S, {"sessionId": "one"}, NO_SESSION),
    ("POST", f"{S}/two", {}, NO_SESSION),
    ("POST", ONE, {}, NO_SESSION),
    ("GET", ONE, None, NO_SESSION),
    ("GET", f"{ONE}?stored=true", None, NO_SESSION),
    ("GET", S, None, (200, [])),
    ("GET", f"{S}?limit=1&stored=true", None, (200, [])),
    ("PATCH", ONE, {"stateDelta": {"a": "taken over", "app:x": "taken over"}}, NO_SESSION),
    ("DELETE", ONE, None, (200, None)),
    ("POST", f"{ONE}/events", {"event": {"author": "bob", "actions": {"stateDelta": {"a": 2}}}}, NO_SESSION),
    ("POST", ART, {"filename": "a.txt", "artifact": {"text": "mine"}}, NO_SESSION),
    ("POST", ART, {"filename": "user:a.txt", "artifact": {"text": "mine"}}, NO_SESSION),
    ("GET", ART, None, (200, [])),
    ("GET", f"{ART}/a.txt", None, NO_ARTIFACT),
    ("GET", f"{ART}/user:b.txt", None, NO_ARTIFACT),
    ("GET", f"{ART}/a.txt?version=0", None, NO_ARTIFACT),
    ("GET", f"{ART}/a.txt/versions", None, (200, [])),
    ("GET", f"{ART}/a.txt/versions/0", None, NO_ARTIFACT),
    ("GET", f"{ART}/a.txt/versions/metadata", None, (200, [])),
    ("GET", f"{ART}/a.txt/versions/0/metadata", None, (404, {"detail": "Artifact version not found"})),
    ("DELETE", f"{ART}/a.txt", None, (200, None)),
    ("PATCH", f"{USER}/memory", {"sessionId": "one"}, NO_SESSION),
    ("GET", f"{USER}/memory?query=hello", None, (200, {"memories": []})),
    ("GET", f"{USER}/state", None, (200, {})),
    ("GET", "/apps/echo/sessions", None, (200, [])),
]
ROUTES_WITHOUT_USER = {"/health", "/version", "/list-apps", "/apps/{app_name}/app-info", "/apps/{app_name}/sessions"}


def key(name: str, **more: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {KEYS[name]}", **more}


@pytest.fixture
async def front(start) -> FrontDoor:
    front = await start(session_api_keys=",".join(f"{name}:{key}" for name, key in KEYS.items()))
    mine = {"headers": key("ada@ada")}
    state = {"a": 1, "user:y": 1}
    event = {"author": "user", "content": {"parts": [{"text": "hello"}], "role": "user"}}
    assert (await front.call("POST", S, {"sessionId": "one", "state": state, "events": [event]}, **mine))[0] == 200
    for name in ("a.txt", "user:b.txt"):
        assert (await front.call("POST", ART, {"filename": name, "artifact": {"text": "x"}}, **mine))[0] == 200
    assert (await front.call("PATCH", f"{USER}/memory", {"sessionId": "one"}, **mine))[0] == 200
    return front


async def everything(front: FrontDoor):
    mine = {"headers": key("ada@ada")}
    paths = [ONE, S, ART, f"{ART}/a.txt", f"{ART}/a.txt/versions", f"{USER}/state", f"{USER}/memory?query=hello"]
    return [await front.call("GET", path, **mine) for path in paths]


@pytest.mark.parametrize("prefix", ["", "/adk"])
@pytest.mark.parametrize("who", [key("bob@bob"), key("service", **{"X-User-Id": "bob"})], ids=["bound", "acting"])
async def test_another_user_sees_and_changes_nothing(front, prefix, who):
    before = await everything(front)
    assert {status for status, _ in before} == {200}
    assert before[-1][1]["memories"]
    for method, path, body, expected in AS_A_STRANGER:
        assert await front.call(method, prefix + path, body, headers=who) == expected, (method, path)
    assert await everything(front) == before
    assert (await front.call("GET", "/apps/echo/users/bob/state", headers=who)) == (200, {})
    _, ours = await front.call("GET", "/sessions", headers=key("service"))
    assert ours["total"] == 1


async def test_every_route_is_tried_as_a_stranger(front):
    _, document = await front.call("GET", "/adk/openapi.json")
    routes = {
        (method.upper(), path)
        for path, operations in document["paths"].items()
        for method in operations
        if path not in ROUTES_WITHOUT_USER and "{user_id}" in path
    }
    tried = {(method, _pattern(path)) for method, path, _, _ in AS_A_STRANGER}
    assert routes <= tried


def _pattern(path: str) -> str:
    known = {
        "/echo": "/{app_name}",
        "/ada": "/{user_id}",
        "/one": "/{session_id}",
        "/two": "/{session_id}",
        "/a.txt": "/{artifact_name}",
        "versions/0": "versions/{version_id}",
        "/user:b.txt": "/{artifact_name}",
    }
    path = path.partition("?")[0]
    for part, name in known.items():
        path = path.replace(part, name)
    return path


@pytest.mark.parametrize("who", [key("ada@ada"), key("service", **{"X-User-Id": "ada"})], ids=["bound", "acting"])
async def test_a_user_changes_nothing_that_other_users_read(front, who):
    assert (await front.call("PATCH", ONE, {"stateDelta": {"app:x": 1}}, headers=key("service")))[0] == 200
    taken_over = {"app:x": "taken over", "app:": 2}
    event = {"author": "ada", "actions": {"stateDelta": taken_over}}
    said = {"appName": "echo", "userId": "ada", "sessionId": "one", "newMessage": {"parts": [{"text": "hello"}]}}
    for method, path, body in [
        ("POST", S, {"state": taken_over}),
        ("POST", f"{S}/two", taken_over),
        ("PATCH", ONE, {"stateDelta": {"b": 1, **taken_over}}),
        ("POST", f"{ONE}/events", {"events": [{"author": "ada"}, event]}),
        ("POST", f"{ONE}/events", {"event": {"author": "ada", "state": taken_over}}),
        ("POST", "/run", {**said, "stateDelta": taken_over}),
        ("POST", "/adk/run_sse", {**said, "stateDelta": taken_over}),
    ]:
        status, answer = await front.call(method, path, body, headers=who)
        assert (status, set(answer)) == (403, {"detail"}), (method, path)
    _, found = await front.call("GET", S, headers=who)
    assert [each["state"] for each in found] == [{"a": 1, "user:y": 1, "app:x": 1}]
    assert (await front.call("GET", "/apps/echo/users/bob/sessions", headers=key("service"))) == (200, [])


async def test_a_service_acts_for_any_user(front):
    status, body = await front.call("GET", ONE, headers=key("service"))
    assert (status, body["id"]) == (200, "one")
    _, found = await front.call("GET", "/apps/echo/sessions", headers=key("service"))
    assert [each["id"] for each in found] == ["one"]
    _, found = await front.call("GET", "/apps/echo/sessions", headers=key("ada@ada"))
    assert [each["id"] for each in found] == ["one"]


async def test_without_a_key(front):
    for path in (S, ONE, "/adk/version", "/adk/list-apps", "/list-apps", "/adk" + S):
        status, body = await front.call("GET", path)
        assert (status, set(body)) == (401, {"detail"}), path
    assert await front.call("GET", "/adk/health") == (200, {"status": "ok"})
    assert (await front.call("GET", "/adk/openapi.json"))[0] == 200


async def test_a_bound_key_does_not_name_another_user(front):
    status, body = await front.call("GET", ONE, headers=key("bob@bob", **{"X-User-Id": "ada"}))
    assert (status, set(body)) == (403, {"detail"})


async def test_without_keys_only_this_machine_is_answered(start):
    front = await start()
    for headers in ({"Host": "evil.example"}, {"Origin": "https://evil.example"}, {"Sec-Fetch-Site": "cross-site"}):
        status, body = await front.call("GET", S, headers=headers)
        assert (status, set(body)) == (403, {"detail"}), headers
        assert (await front.call("POST", "/adk" + S, {}, headers=headers))[0] == 403
    assert await front.call("GET", S) == (200, [])


async def test_credentials_and_internal_metadata_are_for_services_only(front):
    credential = {"authType": "oauth2", "oauth2": {"clientId": "c", "clientSecret": "secret"}}
    config = {"authScheme": {"type": "oauth2", "flows": {}}, "rawAuthCredential": credential}
    event = {
        "author": "echo",
        "customMetadata": {"__adk_internal_mark": 1, "open": 1},
        "actions": {
            "requestedAuthConfigs": {"f": config},
            "stateDelta": {"k": {"auth_type": "apiKey", "api_key": "x"}},
        },
    }
    for caller, marks in (("service", {"open": 1, "__adk_internal_mark": 1}), ("ada@ada", {"open": 1})):
        assert (await front.call("POST", f"{ONE}/events", {"event": event}, headers=key(caller)))[0] == 200
        _, stored = await front.call("GET", f"{ONE}?stored=true", headers=key("service"))
        last = stored["events"][-1]
        assert last["custom_metadata"] == marks
        kept = last["actions"]["requested_auth_configs"]["f"]["raw_auth_credential"]
        assert kept["oauth2"]["client_secret"] == "secret"
        assert stored["state"]["k"]["api_key"] == "x"
        for query in ("", "?stored=true"):
            _, shown = await front.call("GET", ONE + query, headers=key("ada@ada"))
            last = shown["events"][-1]
            assert last["customMetadata"] == {"open": 1}
            shown_credential = last["actions"]["requestedAuthConfigs"]["f"]["rawAuthCredential"]
            assert shown_credential == {
                "authType": "oauth2",
                "oauth2": {"clientId": "c", "tokenEndpointAuthMethod": "client_secret_basic"},
            }
            assert shown["state"]["k"] == {"auth_type": "apiKey"}


async def test_a_user_sees_no_credentials_in_the_state_of_all_its_sessions(front):
    secret = {"authType": "apiKey", "apiKey": "x"}
    assert (await front.call("PATCH", ONE, {"stateDelta": {"user:k": secret}}, headers=key("service")))[0] == 200
    for query in ("", "?stored=true"):
        for who in (key("ada@ada"), key("service", **{"X-User-Id": "ada"})):
            _, shown = await front.call("GET", f"{USER}/state{query}", headers=who)
            assert shown["k"] == {"authType": "apiKey"}
    _, stored = await front.call("GET", f"{USER}/state?stored=true", headers=key("service"))
    assert stored["k"] == secret
