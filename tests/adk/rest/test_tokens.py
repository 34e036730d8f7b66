"""The token of a turn reads its session and appends to it while its attempt is open, and does nothing else."""

from __future__ import annotations

from typing import Any, NamedTuple

import pytest

from session_manager.aio.ids import new_id as new_message_id
from session_manager.domain.access import EVERYTHING
from session_manager.domain.adk.turn_events import reply_id
from session_manager.domain.message import NewMessage, Outcome
from tests.servers.front import FrontDoor
from tests.store.databases import new_id

KEY = "service-key-01234"
# Pods of this class never start, so that a turn stays open for as long as a test likes.
S = "/adk/apps/broken/users/ada/sessions"
ONE = f"{S}/one"
ENDED = [("turn.processed", "{}")]
EVENT = {"event": {"author": "echo", "content": {"parts": [{"text": "from the pod"}]}}}


class Turn(NamedTuple):
    front: FrontDoor
    uuid: str
    message_id: str
    token: str
    service: dict[str, str]

    async def call(self, method: str, path: str, body: Any = None, **headers: str) -> tuple[int, Any]:
        headers = {"X-Session-Token": self.token, **headers}
        return await self.front.call(method, path, body, headers=headers)


@pytest.fixture(params=["with keys", "without"])
async def turn(request, start) -> Turn:
    with_keys = request.param == "with keys"
    front = await start(**({"session_api_keys": f"service:{KEY}"} if with_keys else {}))
    service = {"Authorization": f"Bearer {KEY}"} if with_keys else {}
    async with front.client.post(front.url + S, json={"sessionId": "one"}, headers=service) as response:
        uuid = response.headers["X-Session-Id"]
    accepted = await front.services.store.accept(NewMessage(new_message_id(), uuid, "hello", "web"), EVERYTHING)
    await front.services.tokens.load()
    token = front.services.tokens.mint(uuid, accepted.message.id, 1, 60.0)
    return Turn(front, uuid, accepted.message.id, token, service)


async def test_it_reads_and_appends(turn):
    status, body = await turn.call("GET", ONE)
    assert (status, body["id"]) == (200, "one")
    status, answer = await turn.call("POST", f"{ONE}/events", EVENT | {"lastUpdateTime": body["lastUpdateTime"]})
    assert (status, set(answer)) == (200, {"lastUpdateTime"})
    status, body = await turn.call("GET", f"{ONE}?stored=true&num_recent_events=1")
    assert [each["author"] for each in body["events"]] == ["echo"]
    assert (await turn.call("GET", ONE.removeprefix("/adk")))[0] == 200


async def test_it_does_nothing_else(turn):
    await turn.front.call("POST", S, {"sessionId": "two"}, headers=turn.service)
    before = await turn.front.call("GET", f"{S}/two", headers=turn.service)
    refused = [
        ("GET", f"{S}/two", None),
        ("GET", f"{S}/nobody", None),
        ("POST", f"{S}/two/events", EVENT),
        ("POST", f"{S}/nobody/events", EVENT),
        ("GET", ONE.replace("ada", "bob"), None),
        ("GET", S, None),
        ("GET", f"{S}/", None),
        ("POST", S, {}),
        ("POST", ONE, {}),
        ("PATCH", ONE, {"stateDelta": {"a": 1}}),
        ("DELETE", ONE, None),
        ("GET", f"{ONE}/events", None),
        ("GET", f"{ONE}/artifacts", None),
        ("POST", f"{ONE}/artifacts", {"filename": "a", "artifact": {"text": "x"}}),
        ("PATCH", "/adk/apps/broken/users/ada/memory", {"sessionId": "one"}),
        ("GET", "/adk/apps/broken/users/ada/state", None),
        ("GET", "/adk/apps/broken/sessions", None),
        ("GET", "/adk/list-apps", None),
        ("POST", "/run", {"appName": "broken", "userId": "ada", "sessionId": "one"}),
        ("POST", "/adk/run_sse", {"appName": "broken", "userId": "ada", "sessionId": "one"}),
        ("GET", f"/session/{turn.uuid}", None),
        ("POST", f"/session/{turn.uuid}/chat", {"message": "more"}),
        ("DELETE", f"/session/{turn.uuid}", None),
        ("POST", "/session/create", {"user_id": "ada"}),
        ("GET", "/sessions", None),
        ("GET", "/metrics", None),
    ]
    for method, path, body in refused:
        assert (await turn.call(method, path, body))[0] == 403, (method, path)
        with_key = await turn.call(method, path, body, **turn.service)
        assert with_key[0] == (400 if turn.service else 403), (method, path)
    assert await turn.front.call("GET", f"{S}/two", headers=turn.service) == before
    assert (await turn.call("GET", ONE))[1]["events"] == []


@pytest.mark.parametrize("end", ["recorded", "delivered again", "deleted"])
async def test_it_ends_with_its_attempt(turn, end):
    store = turn.front.services.store
    if end == "recorded":
        assert await store.record(turn.message_id, 1, Outcome.processed("{}")) is not None
    elif end == "delivered again":
        assert await store.begin_redelivery(turn.message_id) is not None
    else:
        await turn.front.call("DELETE", ONE, headers=turn.service)
    assert (await turn.call("GET", ONE))[0] == 403
    assert (await turn.call("POST", f"{ONE}/events", EVENT))[0] == 403
    if end != "deleted":
        _, body = await turn.front.call("GET", ONE, headers=turn.service)
        assert "echo" not in {each["author"] for each in body["events"]}


@pytest.mark.parametrize("caller", ["the pod", "a client"])
async def test_the_events_of_a_turn_cannot_be_written_before_it_ends(turn, caller):
    """Their ids follow from the id of the message, which is known while the turn runs."""
    headers = {"X-Session-Token": turn.token} if caller == "the pod" else turn.service
    for event_id in (turn.message_id, reply_id(turn.message_id)):
        event = {"id": event_id, "author": "user", "content": {"parts": [{"text": "never said"}]}}
        answer = await turn.front.call("POST", f"{ONE}/events", {"event": event}, headers=headers)
        assert answer == (400, {"detail": "id is that of a message whose turn has not ended"})
    await turn.front.services.store.record(turn.message_id, 1, Outcome.processed('{"reply": "yes"}'), ENDED)
    assert await texts(turn) == ["hello", "yes"]
    # From then on they are known ones.
    assert (await turn.front.call("POST", f"{ONE}/events", {"event": event}, headers=turn.service))[0] == 200
    assert await texts(turn) == ["hello", "yes"]


async def test_a_pod_that_appends_partial_events_only_keeps_no_history(turn):
    piece = {"event": {**EVENT["event"], "partial": True}}
    assert (await turn.call("POST", f"{ONE}/events", piece))[0] == 200
    await turn.front.services.store.record(turn.message_id, 1, Outcome.processed('{"reply": "yes"}'), ENDED)
    assert await texts(turn) == ["hello", "yes"]


async def texts(turn: Turn) -> list[str]:
    _, body = await turn.front.call("GET", ONE, headers=turn.service)
    return [each["content"]["parts"][0]["text"] for each in body["events"]]


async def test_forged_and_expired_tokens(turn):
    changed = turn.token[:-1] + ("0" if turn.token[-1] != "0" else "1")
    other = turn.token.replace(turn.uuid, new_id())
    late = turn.front.services.tokens.mint(turn.uuid, turn.message_id, 1, -3600.0)
    for token in ("", "x", changed, other, late, turn.token + "é"):
        status, body = await turn.front.call("GET", ONE, headers={"X-Session-Token": token})
        assert (status, set(body)) == (401, {"detail"}), token


async def test_the_token_of_another_session(turn):
    async with turn.front.client.post(turn.front.url + S, json={"sessionId": "two"}, headers=turn.service) as response:
        uuid = response.headers["X-Session-Id"]
    token = turn.front.services.tokens.mint(uuid, turn.message_id, 1, 60.0)
    for path in (ONE, f"{S}/two"):
        assert (await turn.front.call("GET", path, headers={"X-Session-Token": token}))[0] == 403
        answer = await turn.front.call("POST", f"{path}/events", EVENT, headers={"X-Session-Token": token})
        assert answer[0] == 403
