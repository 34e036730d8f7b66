from __future__ import annotations

import uuid
from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Any

import pytest

from session_manager.domain.adk.model import AdkKey, AdkSession
from session_manager.domain.session_class import SessionClass
from session_manager.podclient.gateway import PodGateway
from session_manager.podclient.protocol import DeltaListener, TurnRequest
from tests.podclient.raw import RawPod

Ask = Callable[..., Coroutine[Any, Any, str]]


async def no_delta(data: str) -> None:
    pytest.fail(f"nothing was to be streamed, and this was: {data}")


async def no_sessions(key: AdkKey, recent: int | None) -> AdkSession:
    pytest.fail("only pods that speak ADK get stored sessions")


@pytest.fixture
async def client() -> AsyncIterator[PodGateway]:
    client = PodGateway(no_sessions)
    yield client
    await client.close()


@pytest.fixture
def ask(client: PodGateway) -> Ask:
    session = str(uuid.uuid4())

    async def ask(
        pod: RawPod, text: str = "Hello", attempt: int = 1, on_delta: DeltaListener = no_delta, user_id: str = "ada"
    ) -> str:
        request = TurnRequest(session, user_id, str(uuid.uuid4()), attempt, text)
        return await client.chat(pod.address, SessionClass("test"), request, on_delta)

    return ask
