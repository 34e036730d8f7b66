"""One front door and its pods for a whole module: an ADK server takes seconds to start."""

from __future__ import annotations

import json
import uuid
from collections.abc import AsyncIterator
from typing import Any

import psutil
import pytest
import pytest_asyncio

from tests.servers import shared
from tests.servers.adk import AGENTS
from tests.servers.front import FrontDoor, front_door, settings_for
from tests.servers.redis import RedisServer
from tests.waiting import until


class Adk:
    """An ADK client of one user and one app, which is the name of a class."""

    def __init__(self, front: FrontDoor, app: str, user: str = "ada") -> None:
        self.front = front
        self.app = app
        self.user = user
        self.sessions = f"/adk/apps/{app}/users/{user}/sessions"

    async def create(self, **body: Any) -> str:
        status, session = await self.front.call("POST", self.sessions, body)
        assert status == 200, session
        return str(session["id"])

    async def get(self, session: str) -> Any:
        status, found = await self.front.call("GET", f"{self.sessions}/{session}")
        assert status == 200, found
        return found

    def body(self, session: str, text: str, **more: Any) -> dict[str, Any]:
        message = {"role": "user", "parts": [{"text": text}]}
        return {"appName": self.app, "userId": self.user, "sessionId": session, "newMessage": message, **more}

    async def run(self, session: str, text: str, **more: Any) -> Any:
        status, events = await self.front.call("POST", "/adk/run", self.body(session, text, **more))
        assert status == 200, events
        return events

    async def run_sse(self, session: str, text: str, **more: Any) -> list[Any]:
        body = self.body(session, text, **more)
        async with self.front.client.post(f"{self.front.url}/adk/run_sse", json=body) as response:
            assert response.status == 200, await response.text()
            assert response.content_type == "text/event-stream"
            lines = (await response.text()).splitlines()
        return [json.loads(line.removeprefix("data: ")) for line in lines if line.startswith("data: ")]

    async def uuid_of(self, session: str) -> str:
        async with self.front.client.get(f"{self.front.url}{self.sessions}/{session}") as response:
            return str(response.headers["X-Session-Id"])


def texts(events: list[Any]) -> list[str]:
    """What was said, in order; an event without a text as its error or its kind."""
    return [_text(event) for event in events]


def _text(event: Any) -> str:
    parts = (event.get("content") or {}).get("parts") or []
    return "".join(part.get("text", "") for part in parts) or event.get("errorMessage", "")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def door(redis_server: RedisServer, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[FrontDoor]:
    redis_server.flush()
    classes = AGENTS / "classes.yaml"
    settings = settings_for(tmp_path_factory.mktemp("door"), redis_server.url, session_classes=classes)
    async with front_door(settings) as front:
        keeper = await until(
            lambda: [child.pid for child in psutil.Process().children() if "keeper.py" in " ".join(child.cmdline())]
        )
        with shared(keeper[0]):
            yield front


def new_user() -> str:
    return f"user-{uuid.uuid4()}"
