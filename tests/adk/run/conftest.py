"""One front door and its pods for a whole module: an ADK server takes seconds to start."""

from __future__ import annotations

import json
import uuid
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio

from tests.servers.adk import AGENTS
from tests.servers.front import FrontDoor, front_door, settings_for
from tests.servers.keeper import keeper_shared
from tests.servers.redis import RedisServer

KINDS = ["default", "copies", "keeps"]  # the classes of adk_agents/classes.yaml


class Adk:
    """An ADK client in one session of an app, which is the name of a class."""

    def __init__(self, front: FrontDoor, app: str, session: str, uuid: str) -> None:
        self.front = front
        self.app = app
        self.session = session
        self.uuid = uuid

    async def get(self) -> Any:
        status, found = await self.front.call("GET", f"/adk/apps/{self.app}/users/ada/sessions/{self.session}")
        assert status == 200, found
        return found

    async def events(self) -> list[Any]:
        return (await self.get())["events"]

    def body(self, text: str, **more: Any) -> dict[str, Any]:
        message = {"role": "user", "parts": [{"text": text}]}
        return {"appName": self.app, "userId": "ada", "sessionId": self.session, "newMessage": message, **more}

    async def run(self, text: str, **more: Any) -> Any:
        status, events = await self.front.call("POST", "/adk/run", self.body(text, **more))
        assert status == 200, events
        return events

    async def run_sse(self, text: str, **more: Any) -> list[Any]:
        body = self.body(text, **more)
        async with self.front.client.post(f"{self.front.url}/run_sse", json=body) as response:
            assert response.status == 200, await response.text()
            assert response.content_type == "text/event-stream"
            lines = (await response.text()).splitlines()
        return [json.loads(line.removeprefix("data: ")) for line in lines if line.startswith("data: ")]

    async def run_later(self, text: str, **headers: str) -> str:
        """Run without waiting, and return the id of the message."""
        headers["Prefer"] = "respond-async"
        status, answer = await self.front.call("POST", "/run", self.body(text), headers=headers)
        assert status == 202, answer
        return str(answer["message_id"])

    async def message(self, message_id: str) -> Any:
        return (await self.front.call("GET", f"/session/{self.uuid}/messages/{message_id}"))[1]


async def begin(front: FrontDoor, app: str, **body: Any) -> Adk:
    """Return a client in a new session."""
    async with front.client.post(f"{front.url}/adk/apps/{app}/users/ada/sessions", json=body) as response:
        session = await response.json()
        assert response.status == 200, session
        return Adk(front, app, session["id"], response.headers["X-Session-Id"])


def texts(events: list[Any]) -> list[str]:
    """Return the texts of the events in order; for an error its message."""
    return [_text(event) for event in events]


def _text(event: Any) -> str:
    parts = (event.get("content") or {}).get("parts") or []
    return "".join(part.get("text", "") for part in parts) or event.get("errorMessage", "")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def door(redis_server: RedisServer, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[FrontDoor]:
    redis_server.flush()
    facts = {"session_classes": AGENTS / "classes.yaml", "answer_within": 1.0}
    settings = settings_for(tmp_path_factory.mktemp("door"), redis_server.url, **facts)
    async with front_door(settings) as front, keeper_shared():
        yield front


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def sessions(door: FrontDoor) -> dict[str, Adk]:
    """A session of each kind for the whole module; each test looks at what it adds."""
    found = {kind: await begin(door, kind, state={"colour": "red"}) for kind in KINDS}
    for adk in found.values():  # all pods start at once
        await adk.front.call("POST", f"/session/{adk.uuid}/wake")
    return found


@pytest_asyncio.fixture(loop_scope="module", params=KINDS)
async def adk(request: pytest.FixtureRequest, sessions: dict[str, Adk]) -> Adk:
    return sessions[request.param]


@pytest_asyncio.fixture(loop_scope="module", params=KINDS[1:])
async def speaking(request: pytest.FixtureRequest, sessions: dict[str, Adk]) -> Adk:
    """A client in a session whose pod speaks ADK."""
    return sessions[request.param]


@pytest.fixture
def nobody() -> str:
    return f"s-{uuid.uuid4()}"
