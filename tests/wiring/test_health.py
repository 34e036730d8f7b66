"""Health asks every part, shares one check, and logs each change once."""

from __future__ import annotations

import asyncio
import logging

import pytest

from session_manager.domain.errors import Unavailable
from session_manager.wiring import health
from session_manager.wiring.health import Health


class Part:
    def __init__(self) -> None:
        self.error: Exception | None = None
        self.asked = 0
        self.answers = asyncio.Event()
        self.answers.set()

    async def check(self) -> None:
        self.asked += 1
        await self.answers.wait()
        if self.error is not None:
            raise self.error


async def test_simultaneous_callers_share_one_check():
    part = Part()
    checks = Health({"one": part.check})
    assert [await each for each in [asyncio.create_task(checks.check()) for _ in range(5)]] == [{"one": None}] * 5
    assert part.asked == 1


async def test_a_part_that_is_silent_or_broken_is_named_and_hides_no_other(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(health, "PATIENCE", 0.01)
    silent, broken, away, fine = (Part() for _ in range(4))
    silent.answers.clear()
    broken.error, away.error = ValueError("x"), Unavailable("it is away")
    parts = {"silent": silent, "broken": broken, "away": away, "fine": fine}
    assert await Health({name: part.check for name, part in parts.items()}).check() == {
        "silent": "it does not answer within 0.01 s",
        "broken": "it fails with ValueError",
        "away": "it is away",
        "fine": None,
    }


async def test_each_change_is_logged_once(caplog: pytest.LogCaptureFixture):
    caplog.set_level(logging.INFO, health.log.name)
    part = Part()
    checks = Health({"one": part.check})
    for error in (None, None, Unavailable("full"), Unavailable("full"), Unavailable("gone"), None, None):
        part.error = error
        await checks.check()
        checks._tell()
    assert [each.getMessage() for each in caplog.records] == ["one: full", "one: gone", "one works again"]


async def test_closing_ends_a_check_and_frees_who_waits_for_it():
    part = Part()
    part.answers.clear()
    checks = Health({"one": part.check})
    waiting = asyncio.create_task(checks.check())
    while not part.asked:
        await asyncio.sleep(0)
    await checks.close()
    assert await waiting == {}
