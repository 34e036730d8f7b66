"""The credentials of the session service: a key, or the token of a turn for its own session."""

from __future__ import annotations

import uuid
from typing import Any

import pytest
from google.adk.events import Event

from session_manager.adk import use_token
from session_manager.adk.client import Rejected
from session_manager.domain.access import EVERYTHING
from session_manager.domain.message import NewMessage, Outcome
from tests.adk.service.conftest import opened, service_of

KEY = "a-key-of-a-service"


@pytest.fixture
def keys(request: pytest.FixtureRequest) -> Any:
    return opened("sqlite", request, session_api_keys=f"service:{KEY}")


async def test_with_keys_one_is_needed(keys: Any, monkeypatch: pytest.MonkeyPatch, who: Any):
    async with keys as front:
        for key in (None, "another-key-than-that"):
            stranger = service_of(front, key)
            with pytest.raises(Rejected, match="401"):
                await stranger.create_session(**who)
            await stranger.close()
        known = service_of(front, KEY)
        session = await known.create_session(**who)
        await known.close()
        monkeypatch.setenv("SESSION_MANAGER_KEY", KEY)
        by_environment = service_of(front)
        assert await by_environment.get_session(**who, session_id=session.id) == session
        await by_environment.close()


async def test_the_token_of_a_turn_is_valid_for_its_session_while_it_is_open(keys: Any, who: Any):
    async with keys as front:
        service = service_of(front, KEY)
        session, other = await service.create_session(**who), await service.create_session(**who)
        found = await front.call("GET", "/sessions", headers={"Authorization": f"Bearer {KEY}"})
        one = next(row["uuid"] for row in found[1]["sessions"] if row["uuid"] == session.id)
        store, tokens = front.services.store, front.services.tokens
        message = (await store.accept(NewMessage(str(uuid.uuid4()), one, "Hi", "local"), EVERYTHING)).message
        await tokens.load()
        first = tokens.mint(one, message.id, 1, 600)
        with use_token(first):
            assert await service.get_session(**who, session_id=session.id) == session
            await service.append_event(session, Event(author="a", invocation_id="e"))
            for refused in (
                service.get_session(**who, session_id=other.id),
                service.append_event(other, Event(author="a", invocation_id="e")),
                service.create_session(**who),
                service.list_sessions(**who),
                service.get_user_state(**who),
                service.delete_session(**who, session_id=session.id),
            ):
                with pytest.raises(Rejected, match="403"):
                    await refused
        await store.begin_redelivery(message.id)
        with use_token(first), pytest.raises(Rejected, match="403"):
            await service.append_event(session, Event(author="a", invocation_id="e"))
        with use_token(tokens.mint(one, message.id, 2, 600)):
            await service.append_event(session, Event(author="a", invocation_id="e"))
            await store.record(message.id, 2, Outcome.processed("{}"))
            with pytest.raises(Rejected, match="403"):
                await service.append_event(session, Event(author="a", invocation_id="e"))
            with pytest.raises(Rejected, match="403"):
                await service.get_session(**who, session_id=session.id)
        with use_token("no token"), pytest.raises(Rejected, match="401"):
            await service.get_session(**who, session_id=session.id)
        await service.close()
