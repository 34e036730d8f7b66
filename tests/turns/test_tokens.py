from __future__ import annotations

import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from session_manager.domain.errors import Unauthenticated
from session_manager.domain.message import Attempt
from session_manager.people.tokens import LEEWAY, Grant, Tokens

SESSION = "1b9d6bcd-bbfd-4b2d-9b5d-ab8dfbbd4bed"
MESSAGE = "01a1fe32-927a-79a2-8a12-9a85cc0c4483"


def tokens(secret: str = "one secret") -> Tokens:
    async def give() -> str:
        return secret

    return Tokens(give)


async def mint(attempt: int = 1, secret: str = "one secret") -> str:
    made = tokens(secret)
    await made.load()
    return made.mint(SESSION, MESSAGE, attempt, 600)


async def test_a_token_is_valid_at_every_front_door_of_its_installation():
    before = time.time()
    token = await mint(attempt=2)
    grant = await tokens().verify(token)
    assert grant == Grant(SESSION, Attempt(MESSAGE, 2), grant.began)
    assert before - 1 < grant.began <= time.time()


async def test_a_token_of_another_installation_is_rejected():
    token = await mint(secret="another")
    with pytest.raises(Unauthenticated):
        await tokens().verify(token)


@given(st.data())
async def test_no_character_of_a_token_can_be_changed(data: Any):
    token = await mint()
    at = data.draw(st.integers(0, len(token) - 1))
    other = data.draw(st.characters(codec="utf-8").filter(lambda character: character != token[at]))
    with pytest.raises(Unauthenticated):
        await tokens().verify(token[:at] + other + token[at + 1 :])


@given(st.text(max_size=400))
async def test_anything_else_is_rejected(text: str):
    with pytest.raises(Unauthenticated):
        await tokens().verify(text)


async def test_a_token_expires_with_its_turn(monkeypatch: pytest.MonkeyPatch):
    token = await mint()
    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now + 599 + LEEWAY)
    assert await tokens().verify(token)
    monkeypatch.setattr(time, "time", lambda: now + 602 + LEEWAY)
    with pytest.raises(Unauthenticated, match="over"):
        await tokens().verify(token)
