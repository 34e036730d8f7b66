"""ADK's events follow the turns by themselves: after a pause, a restart, or the end of another front door."""

from __future__ import annotations

import asyncio

import pytest

from session_manager.domain.errors import StoreUnavailable
from session_manager.turns import adk
from session_manager.turns.adk import AdkHistory


class Sessions:
    """The part of a store that ADK's events need."""

    def __init__(self, *behind: str) -> None:
        self.behind = list(behind)
        self.told: list[str] = []
        self.away = False
        self.looks = 0

    async def adk_behind(self, limit: int) -> list[str]:
        self.looks += 1
        return self.behind[:limit]

    async def adk_catch_up(self, *uuids: str) -> None:
        if self.away:
            raise StoreUnavailable
        self.told += uuids
        self.behind = [uuid for uuid in self.behind if uuid not in uuids]


class Pauses:
    """Skips ``number`` pauses, and blocks at the next one."""

    def __init__(self) -> None:
        self.number = 0
        self.over = asyncio.Event()

    async def sleep(self, seconds: float) -> None:
        if self.number == 0:
            self.over.set()
            await asyncio.Event().wait()
        self.number -= 1


@pytest.fixture
def pauses(monkeypatch: pytest.MonkeyPatch) -> Pauses:
    pauses = Pauses()
    monkeypatch.setattr("asyncio.sleep", pauses.sleep)
    return pauses


async def passed(history: AdkHistory, pauses: Pauses, number: int) -> None:
    pauses.number = number
    pauses.over.clear()
    task = asyncio.create_task(history.run())
    await pauses.over.wait()
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def test_a_noted_session_is_brought_up_to_date_once(pauses: Pauses):
    store = Sessions()
    history = AdkHistory(store)  # type: ignore[arg-type]
    for session in ("a", "b", "a"):
        history.behind.add(session)
    await passed(history, pauses, 3)
    assert sorted(store.told) == ["a", "b"]
    assert store.looks == 1


async def test_sessions_left_by_other_front_doors_are_found(pauses: Pauses):
    store = Sessions(*map(str, range(adk.FOUND + 3)))
    history = AdkHistory(store)  # type: ignore[arg-type]
    await passed(history, pauses, 2)
    assert len(store.told) == adk.FOUND + 3, "a full page is followed by the next"
    store.behind.append("left")
    await passed(AdkHistory(store), pauses, 1)  # type: ignore[arg-type]
    assert store.told[-1] == "left"


async def test_no_session_is_lost_while_the_database_is_unavailable():
    store = Sessions()
    history = AdkHistory(store)  # type: ignore[arg-type]
    for session in "abcdefghij":
        history.behind.add(session)
    store.away = True
    with pytest.raises(StoreUnavailable):
        await history.flush()
    await history.catch_up("z")
    store.away = False
    await history.flush()
    assert sorted(store.told) == [*"abcdefghij", "z"]
