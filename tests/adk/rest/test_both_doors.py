"""A session made on either door is one session, seen and ended on the other."""

from __future__ import annotations

from session_manager.domain.access import OwnedBy
from session_manager.store.protocol import AdkQuery

S = "/adk/apps/echo/users/ada/sessions"


async def uuid_of(front, path: str, body=None, method: str = "POST") -> str:
    async with front.client.request(method, front.url + path, json=body) as response:
        assert response.status == 200, await response.text()
        return response.headers["X-Session-Id"]


async def test_made_by_an_adk_client(ours):
    uuid = await uuid_of(ours, S, {"sessionId": "one"})
    assert await uuid_of(ours, f"{S}/one", method="GET") == uuid
    status, body = await ours.call("GET", f"/session/{uuid}")
    assert (status, body["uuid"], body["user_id"], body["status"]) == (200, uuid, "ada", "created")
    assert (body["app"], body["class"]) == ("echo", "default")
    _, found = await ours.call("GET", "/sessions?app=echo&adk_id=one")
    assert [each["uuid"] for each in found["sessions"]] == [uuid]
    assert (await ours.call("GET", "/sessions?app=other&adk_id=one"))[1]["total"] == 0
    status, _ = await ours.call("POST", f"/session/{uuid}/wake")
    assert status == 200


async def test_made_by_an_adk_client_without_an_id(ours):
    _, body = await ours.call("POST", S)
    assert (await ours.call("GET", f"/session/{body['id']}"))[0] == 200


async def test_an_id_that_is_another_sessions_uuid(ours):
    mine = await ours.create()
    uuid = await uuid_of(ours, S, {"sessionId": mine})
    assert uuid != mine
    assert (await ours.call("GET", f"/session/{mine}"))[1]["app"] == "default"


async def test_made_on_our_door(ours):
    uuid = await ours.create(name="Plans")
    path = "/adk/apps/default/users/ada/sessions"
    assert await uuid_of(ours, f"{path}/{uuid}", method="GET") == uuid
    status, body = await ours.call("GET", f"{path}/{uuid}")
    assert (status, set(body)) == (200, {"id", "appName", "userId", "state", "events", "lastUpdateTime"})
    assert (body["id"], body["appName"], body["state"], body["events"]) == (uuid, "default", {}, [])
    _, rows = await ours.call("GET", path)
    assert [each["id"] for each in rows] == [uuid]
    status, body = await ours.call("PATCH", f"{path}/{uuid}", {"stateDelta": {"a": 1}})
    assert (status, body["state"]) == (200, {"a": 1})
    _, body = await ours.call("GET", f"/session/{uuid}")
    assert set(body) >= {"uuid", "user_id", "name", "app", "class", "status"}
    assert body["name"] == "Plans"


async def test_class_of_an_app(front):
    uuid = await uuid_of(front, "/adk/apps/short/users/ada/sessions")
    assert (await front.call("GET", f"/session/{uuid}"))[1]["class"] == "short"
    uuid = await uuid_of(front, "/adk/apps/Any Name é/users/ada/sessions")
    _, body = await front.call("GET", f"/session/{uuid}")
    assert (body["class"], body["app"]) == ("default", "Any Name é")


async def test_ended_on_either_door(ours):
    uuid = await uuid_of(ours, S, {"sessionId": "one", "state": {"a": 1, "user:b": 2}})
    assert await ours.call("DELETE", f"{S}/one") == (200, None)
    assert (await ours.call("GET", f"/session/{uuid}"))[0] == 404
    again = await uuid_of(ours, S, {"sessionId": "one"})
    assert again != uuid
    _, body = await ours.call("GET", f"{S}/one")
    assert (body["state"], body["events"]) == ({"user:b": 2}, [])
    assert (await ours.call("DELETE", f"/session/{again}"))[0] == 200
    assert await ours.call("GET", f"{S}/one") == (404, {"detail": "Session not found"})
    assert (await ours.services.store.adk_list(AdkQuery("echo", OwnedBy("ada")))).sessions == []


async def test_two_front_doors(start):
    one, two = await start(), await start()
    uuid = await uuid_of(one, S, {"sessionId": "one"})
    assert (await two.call("POST", S, {"sessionId": "one"}))[0] == 409
    assert (await two.call("PATCH", f"{S}/one", {"stateDelta": {"a": 1}}))[0] == 200
    assert (await one.call("GET", f"{S}/one"))[1]["state"] == {"a": 1}
    assert (await two.call("DELETE", f"/session/{uuid}"))[0] == 200
    assert (await one.call("GET", f"{S}/one"))[0] == 404
