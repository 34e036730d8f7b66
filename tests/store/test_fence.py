"""A store that may lose the right to write: without it no write begins, and no write is confirmed."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from session_manager.aio.ids import new_id
from session_manager.domain.access import EVERYTHING
from session_manager.domain.errors import NotFound, NotTheWriter
from session_manager.domain.times import Micros
from session_manager.store.protocol import NewSession
from session_manager.store.sqlite.adapter import SqliteStore


class Fence:
    """Passes the first ``left`` checks."""

    left = 1_000

    def __call__(self) -> None:
        self.left -= 1
        if self.left < 0:
            raise NotTheWriter


@pytest.fixture
def fence() -> Fence:
    return Fence()


@pytest.fixture
async def store(tmp_path: Path, fence: Fence) -> AsyncIterator[SqliteStore]:
    store = SqliteStore(tmp_path / "sessions.db", fence=fence)
    await store.start()
    yield store
    await store.close()


def new() -> NewSession:
    return NewSession(new_id(), "ada", "default", Micros(10**12))


async def test_the_writer_writes(store: SqliteStore) -> None:
    session = await store.create_session(new())
    assert await store.get_session(session.uuid, EVERYTHING) == session


async def test_without_the_right_it_writes_nothing_and_still_reads(store: SqliteStore, fence: Fence) -> None:
    fence.left = 0
    wanted = new()
    with pytest.raises(NotTheWriter):
        await store.create_session(wanted)
    with pytest.raises(NotFound):
        await store.get_session(wanted.uuid, EVERYTHING)


async def test_a_commit_after_losing_the_right_is_not_confirmed(store: SqliteStore, fence: Fence) -> None:
    fence.left = 1
    with pytest.raises(NotTheWriter):
        await store.create_session(new())
