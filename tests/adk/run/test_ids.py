"""Odd ids through every door: accepted and then reachable everywhere, or refused when something is made."""

from __future__ import annotations

import asyncio
import json
import uuid
from typing import Any
from urllib.parse import quote

import pytest
import requests
from yarl import URL

from session_manager.client import Client
from tests.adk.run.conftest import texts
from tests.adk.service.conftest import service_of
from tests.cli.program import call
from tests.domain.test_ids import FINE, ODD
from tests.servers.front import FrontDoor

pytestmark = pytest.mark.asyncio(loop_scope="module")

# The embedded interpreter of a shell cannot pass a lone surrogate or a NUL.
SENDABLE = [(text, says) for text, says in ODD if text.isprintable() or text in ("a\x07b", "a\u200bb", "a\u2028b")]


def part(text: str) -> str:
    return quote(text, safe="")


async def off_loop(call_: Any, *args: Any, **options: Any) -> Any:
    """Call a synchronous client while the front door serves from this loop."""
    return await asyncio.to_thread(call_, *args, **options)


@pytest.mark.parametrize("odd", FINE)
async def test_a_user_is_the_same_in_rest_adk_header_and_list(door: FrontDoor, odd: str):
    with Client(door.url) as service, Client(door.url, user=odd) as person, Client(door.url, user="eve") as eve:
        uuid_ = (await off_loop(service.create, odd))["uuid"]
        assert (await off_loop(person.get, uuid_))["user_id"] == odd
        [row] = await off_loop(list, person.list())
        assert (row["uuid"], row["user_id"]) == (uuid_, odd)
        assert [each["uuid"] for each in await off_loop(list, service.list(user_id=odd))] == [uuid_]
        assert await off_loop(list, eve.list()) == []
        path = f"/adk/apps/default/users/{part(odd)}/sessions"
        assert (await door.call("GET", f"{path}/{uuid_}"))[1]["userId"] == odd
        await off_loop(person.delete, uuid_)
    assert (await door.call("GET", f"{path}/{uuid_}"))[0] == 404


@pytest.mark.parametrize("odd", FINE)
async def test_an_adk_session_with_that_id_user_and_app_is_reached_by_every_route(door: FrontDoor, odd: str):
    sessions = f"/apps/{part(odd)}/users/{part(odd)}/sessions"
    one = f"{sessions}/{part(odd)}"
    status, made = await door.call("POST", sessions, {"sessionId": odd, "state": {"a": 1}})
    assert (status, made["id"], made["userId"], made["appName"]) == (200, odd, odd, odd)
    assert (await door.call("POST", one))[0] == 409
    assert (await door.call("GET", one))[1]["state"] == {"a": 1}
    assert [each["id"] for each in (await door.call("GET", f"/adk{sessions}"))[1]] == [odd]
    assert (await door.call("PATCH", one, {"stateDelta": {"b": 2}}))[1]["state"] == {"a": 1, "b": 2}
    saved = await door.call("POST", f"{one}/artifacts", {"filename": "a/versions/0", "artifact": {"text": "x"}})
    assert saved[0] == 200, saved
    named = f"{one}/artifacts/{part('a/versions/0')}"
    assert await door.call("GET", named) == (200, {"text": "x"})
    assert await door.call("GET", f"{named}/versions") == (200, [0])
    uri = saved[1]["canonicalUri"]
    link = {"filename": "link", "artifact": {"fileData": {"fileUri": uri}}}
    assert (await door.call("POST", f"{one}/artifacts", link))[0] == 200
    assert await door.call("GET", f"{one}/artifacts/link") == (200, {"text": "x"})
    assert (await door.call("DELETE", one)) == (200, None)
    assert (await door.call("GET", one))[0] == 404


@pytest.mark.parametrize(("odd", "says"), SENDABLE)
async def test_an_id_that_cannot_work_is_refused_with_a_sentence(door: FrontDoor, odd: str, says: str):
    sentence = says if says != "space" else "space|1 to 128"
    status, answer = await door.call("POST", "/session/create", {"user_id": odd})
    assert (status, answer["field"]) == (400, "user_id")
    assert any(each in answer["detail"] for each in sentence.split("|"))
    for app, user, session in ((odd, "ada", "s"), ("default", odd, "s"), ("default", "ada", odd)):
        if session == odd and odd != odd.strip():
            continue  # ADK's own services trim it
        if not (app and user and session):
            continue  # another path; or an id that is made for the caller
        body = json.dumps({"sessionId": session})
        url = f"{door.url}/apps/{part(app)}/users/{part(user)}/sessions"
        answer = await off_loop(raw_post, url, body)
        assert answer.status_code == 400, answer.text
        assert any(each in answer.json()["detail"] for each in sentence.split("|"))


def raw_post(url: str, body: str) -> requests.Response:
    """Send a path as it is: clients remove dots from it."""
    request = requests.Request("POST", url, data=body, headers={"Content-Type": "application/json"}).prepare()
    request.url = url.replace("/./", "/%2E/").replace("/../", "/%2E%2E/")
    with requests.Session() as session:
        return session.send(request)


async def test_no_spelling_of_a_path_or_header_names_another_user(door: FrontDoor):
    accented = "\u00e9"
    await door.create(user_id=accented)
    for other in ("e%CC%81", "%C3%A9%00", "%E9", "%FF", "%C3%83%C2%A9"):
        url = URL(f"{door.url}/adk/apps/default/users/{other}/sessions", encoded=True)
        async with door.client.get(url) as answer:
            assert answer.status == 404 or await answer.json() == []
    status, answer = await door.call("GET", "/sessions", headers={"X-User-Id": "e\u0301"})
    assert (status, answer["field"]) == (400, "X-User-Id")


async def test_the_command_line_takes_the_same_ids(door: FrontDoor):
    for odd in ("org/ada", "a b+c%d:é"):
        made = await off_loop(call, "create", "--url", door.url, "--user", odd, "--json")
        assert json.loads(made.stdout)["user_id"] == odd, made.stderr
        listed = await off_loop(call, "list", "--url", door.url, "--user", odd)
        assert odd in listed.stdout
    refused = await off_loop(call, "create", "--url", door.url, "--user", "..")
    assert (refused.returncode, refused.stdout) == (2, "")
    assert "slashes" in refused.stderr


@pytest.mark.parametrize("app", ["copies", "keeps"])
async def test_an_agent_runs_and_keeps_artifacts_under_odd_ids(door: FrontDoor, app: str):
    user, session = "C:org/é %2F+x", f"user/a:b\\c %2F {uuid.uuid4()}"
    sessions = f"/apps/{app}/users/{part(user)}/sessions"
    assert (await door.call("POST", sessions, {"sessionId": session}))[0] == 200
    message = {"role": "user", "parts": [{"text": "Hello"}]}
    body = {"appName": app, "userId": user, "sessionId": session, "newMessage": message}
    for _ in range(2):
        status, events = await door.call("POST", "/run", body)
        assert status == 200, events
        assert "Hello" in texts(events)[0]
    status, found = await door.call("GET", f"{sessions}/{part(session)}")
    assert len(found["events"]) == 4
    assert (await door.call("DELETE", f"{sessions}/{part(session)}"))[0] == 200


async def test_the_session_service_of_agents_takes_them(door: FrontDoor):
    service = service_of(door)
    odd = "org/é %2F+x:y"
    try:
        made = await service.create_session(app_name=odd, user_id=odd, session_id=odd)
        assert made.id == odd
        found = await service.get_session(app_name=odd, user_id=odd, session_id=odd)
        assert found is not None
        assert found.user_id == odd
        await service.delete_session(app_name=odd, user_id=odd, session_id=odd)
        assert await service.get_session(app_name=odd, user_id=odd, session_id=odd) is None
    finally:
        await service.close()
