"""The contract with several front doors at once: two stores on one database."""

from __future__ import annotations

import asyncio

import pytest

from session_manager.domain.access import EVERYTHING
from session_manager.domain.errors import Conflict, NotFound
from session_manager.domain.message import Accepted, Cancelled, MessageStatus, Outcome
from session_manager.store.sql import SqlStore
from tests.store.databases import DONE, Database, Opened, make, new_message, say

ROUNDS = 10


@pytest.fixture
async def two(store: SqlStore, opened: Opened) -> list[SqlStore]:
    return [store, await opened()]


async def test_seqs_are_unique_and_dense(two: list[SqlStore]) -> None:
    session = await make(two[0])
    accepted = await asyncio.gather(*(two[n % 2].accept(new_message(session), EVERYTHING) for n in range(150)))
    assert sorted(one.message.seq for one in accepted) == list(range(1, 151))
    assert all(one.lowest_unfinished <= one.message.seq for one in accepted)
    listed = await two[0].list_messages(session, EVERYTHING, 500)
    assert {message.id: message.seq for message in listed} == {one.message.id: one.message.seq for one in accepted}


async def test_a_message_sees_every_one_acknowledged_before_it(two: list[SqlStore]) -> None:
    session = await make(two[0])

    async def one_after_the_other(store: SqlStore) -> list[Accepted]:
        return [await store.accept(new_message(session), EVERYTHING) for _ in range(20)]

    for accepted in await asyncio.gather(*map(one_after_the_other, two * 2)):
        assert sorted(accepted, key=lambda one: one.message.seq) == accepted
        assert all(one.lowest_unfinished <= accepted[0].message.seq for one in accepted)


async def test_one_key_makes_one_message(two: list[SqlStore], database: Database) -> None:
    for _ in range(ROUNDS):
        session = await make(two[0])
        same = [new_message(session, idempotency_key="k", body_hash="h") for _ in range(12)]
        accepted = await asyncio.gather(*(two[n % 2].accept(new, EVERYTHING) for n, new in enumerate(same)))
        assert [one.repeated for one in accepted].count(False) == 1
        assert len({one.message.id for one in accepted}) == 1
        assert await database.rows(f"SELECT count(*) FROM message WHERE session = '{session}'") == [(1,)]
        assert (await two[0].accept(new_message(session), EVERYTHING)).message.seq == 2


async def test_one_result_is_recorded(two: list[SqlStore]) -> None:
    for _ in range(ROUNDS):
        session = await make(two[0])
        message = await say(two[0], session)
        results = [Outcome.processed(f'{{"by": {n}}}') for n in range(8)]
        recorded = await asyncio.gather(
            *(two[n % 2].record(message, 1, result, [("by", str(n))] * 2) for n, result in enumerate(results))
        )
        [winner] = [n for n, events in enumerate(recorded) if events is not None]
        assert (await two[1].get_message(session, message, EVERYTHING)).response == results[winner].response
        assert await two[0].events(session, 0, 100) == recorded[winner]
        assert [event.number for event in recorded[winner] or []] == [1, 2]


async def test_a_cancel_and_a_result_exclude_each_other(two: list[SqlStore]) -> None:
    for _ in range(ROUNDS):
        session = await make(two[0])
        message = await say(two[0], session)
        calls = [two[n % 2].record(message, 1, DONE, [("turn.processed", "{}")]) for n in range(4)]
        cancels = [two[n % 2].cancel(session, message, EVERYTHING) for n in range(4)]
        results = await asyncio.gather(*cancels, *calls, return_exceptions=True)
        [winner] = [each for each in results if isinstance(each, Cancelled | list)]
        assert all(each is None or isinstance(each, Conflict) for each in results if each is not winner)
        stored = await two[1].get_message(session, message, EVERYTHING)
        events = await two[0].events(session, 0, 10)
        if isinstance(winner, Cancelled):
            assert (winner.message, [winner.event]) == (stored, events)
        else:
            assert (stored.status, events) == (MessageStatus.PROCESSED, winner)


async def test_a_redelivery_and_a_result_exclude_each_other(two: list[SqlStore]) -> None:
    for _ in range(ROUNDS):
        session = await make(two[0])
        message = await say(two[0], session)
        redelivered, recorded, died = await asyncio.gather(
            two[0].begin_redelivery(message),
            two[1].record(message, 1, DONE, [("reply", "{}")]),
            two[0].record_death(message, 1),
        )
        assert (redelivered is None) != (recorded is None)
        kept = await two[0].get_message(session, message, EVERYTHING)
        assert (kept.status is MessageStatus.PROCESSED) == (recorded is not None)
        assert kept.attempt == (1 if redelivered is None else 2)
        assert kept.deaths == (died or 0)
        assert len(await two[0].events(session, 0, 10)) == (0 if recorded is None else 1)


async def test_events_of_concurrent_turns_are_dense(two: list[SqlStore]) -> None:
    session = await make(two[0])
    ids = [await say(two[0], session) for _ in range(30)]
    recorded = await asyncio.gather(
        *(two[n % 2].record(one, 1, DONE, [(str(n), "{}")] * (n % 4)) for n, one in enumerate(ids))
    )
    events = await two[0].events(session, 0, 1000)
    assert [event.number for event in events] == list(range(1, len(events) + 1))
    assert sorted(events, key=str) == sorted((event for stored in recorded for event in stored or []), key=str)


async def test_no_message_outlives_its_session(two: list[SqlStore], database: Database) -> None:
    for _ in range(ROUNDS):
        session = await make(two[0])
        first = await say(two[0], session)
        results = await asyncio.gather(
            *(two[n % 2].accept(new_message(session), EVERYTHING) for n in range(6)),
            two[1].delete_session(session, EVERYTHING),
            two[0].record(first, 1, DONE),
            two[0].delete_session(session, EVERYTHING),
            *(two[n % 2].accept(new_message(session), EVERYTHING) for n in range(6)),
            return_exceptions=True,
        )
        refused = [one for one in results if isinstance(one, BaseException)]
        assert all(isinstance(one, NotFound) for one in refused), refused
        accepted = [one for one in results if isinstance(one, Accepted)]
        rows = await database.rows(f"SELECT finished_at FROM message WHERE session = '{session}'")
        assert len(rows) == 1 + len(accepted)
        assert all(finished_at is not None for (finished_at,) in rows)
        assert len(refused) + len(accepted) == 13


async def test_a_message_wins_over_expiry(two: list[SqlStore]) -> None:
    for _ in range(ROUNDS):
        session = await make(two[0], ttl=1)
        read = await two[0].get_session(session, EVERYTHING)
        expired, accepted = await asyncio.gather(
            two[0].expire(session, read.last_activity), two[1].accept(new_message(session), EVERYTHING)
        )
        assert isinstance(expired, bool)
        assert accepted.message.seq == 1
        assert (await two[0].get_session(session, EVERYTHING)).expired_at is None
        assert (await two[0].get_session(session, EVERYTHING)).last_activity == accepted.message.accepted_at


async def test_purge_and_late_results(two: list[SqlStore], database: Database) -> None:
    for _ in range(ROUNDS):
        session = await make(two[0])
        ids = [await say(two[0], session) for _ in range(4)]
        await asyncio.gather(
            two[0].delete_session(session, EVERYTHING),
            *(two[n % 2].record(one, 1, DONE, [("reply", "{}")]) for n, one in enumerate(ids)),
            two[0].purge_session(session),
            two[1].purge_session(session),
        )
        await two[1].purge_session(session)
        assert await database.rows(f"SELECT 1 FROM message WHERE session = '{session}'") == []
        assert await database.rows(f"SELECT 1 FROM session_event WHERE session = '{session}'") == []


async def test_a_cancelled_call_leaves_the_others_alone(store: SqlStore) -> None:
    session = await make(store)
    tasks = [asyncio.ensure_future(store.accept(new_message(session, str(n)), EVERYTHING)) for n in range(40)]
    await asyncio.sleep(0)
    for task in tasks[::3]:
        task.cancel()
    results = await asyncio.gather(*tasks, return_exceptions=True)
    kept = {one.message.id for one in results if isinstance(one, Accepted)}
    listed = await store.list_messages(session, EVERYTHING, 100)
    assert kept <= {message.id for message in listed}
    assert [message.seq for message in listed] == list(range(1, len(listed) + 1))
    assert all(isinstance(one, Accepted) for n, one in enumerate(results) if n % 3)
    assert (await store.accept(new_message(session), EVERYTHING)).message.seq == len(listed) + 1
