"""Messages: accepted once, delivered with increasing attempts, recorded or cancelled once."""

from __future__ import annotations

import pytest

from session_manager.domain.access import EVERYTHING, OwnedBy
from session_manager.domain.errors import Conflict, IdempotencyMismatch, NotFound
from session_manager.domain.message import MessageStatus, Outcome, StoredEvent
from session_manager.store.sql import SqlStore
from tests.store.databases import DONE, make, new_id, new_message, pass_time, say


async def test_a_message_is_accepted_with_the_next_seq(store: SqlStore) -> None:
    session, other = await make(store), await make(store)
    made = await store.get_session(session, EVERYTHING)
    await pass_time(store)
    new = new_message(session, "Grüße 👋", caller="web")
    accepted = await store.accept(new, OwnedBy("ann"))
    message = accepted.message
    assert (message.id, message.session, message.seq, message.text) == (new.id, session, 1, "Grüße 👋")
    assert (message.attempt, message.deaths, message.caller) == (1, 0, "web")
    assert (message.finished_at, message.status, message.response, message.error) == (None, None, None, None)
    assert not accepted.repeated
    assert accepted.lowest_unfinished == 1
    assert accepted.session.last_activity == message.accepted_at > made.last_activity
    assert accepted.session.expires_at - accepted.session.last_activity == made.expires_at - made.last_activity
    assert await store.get_session(session, EVERYTHING) == accepted.session
    assert await store.get_message(session, new.id, OwnedBy("ann")) == message
    assert (await store.accept(new_message(session), EVERYTHING)).message.seq == 2
    assert (await store.accept(new_message(other), EVERYTHING)).message.seq == 1


async def test_lowest_unfinished(store: SqlStore) -> None:
    session = await make(store)
    first, second = await say(store, session), await say(store, session)
    assert (await store.accept(new_message(session), EVERYTHING)).lowest_unfinished == 1
    await store.record(second, 1, DONE)
    assert (await store.accept(new_message(session), EVERYTHING)).lowest_unfinished == 1
    await store.record(first, 1, DONE)
    assert (await store.accept(new_message(session), EVERYTHING)).lowest_unfinished == 3


async def test_a_message_revives_an_expired_session(store: SqlStore) -> None:
    session = await make(store, ttl=1)
    made = await store.get_session(session, EVERYTHING)
    assert await store.expire(session, made.last_activity)
    assert (await store.get_session(session, EVERYTHING)).expired_at is not None
    accepted = await store.accept(new_message(session), EVERYTHING)
    revived = await store.get_session(session, EVERYTHING)
    assert revived.expired_at is None
    assert accepted.session == revived
    assert revived.last_activity > made.last_activity


async def test_an_id_is_accepted_once(store: SqlStore) -> None:
    session = await make(store)
    message = await say(store, session)
    with pytest.raises(Conflict):
        await store.accept(new_message(session, id=message), EVERYTHING)
    assert (await store.accept(new_message(session), EVERYTHING)).message.seq == 2


async def test_a_repeated_key_gives_the_same_message_and_writes_nothing(store: SqlStore) -> None:
    session = await make(store)
    first = await store.accept(new_message(session, idempotency_key="k", body_hash="h"), EVERYTHING)
    before = await store.get_session(session, EVERYTHING)
    await pass_time(store)
    again = await store.accept(new_message(session, idempotency_key="k", body_hash="h"), EVERYTHING)
    assert again.repeated
    assert (again.message, again.session, again.lowest_unfinished) == (first.message, before, 1)
    await store.record(first.message.id, 1, DONE)
    finished = await store.accept(new_message(session, idempotency_key="k", body_hash="h"), OwnedBy("ann"))
    assert finished.repeated
    assert finished.message.status is MessageStatus.PROCESSED
    assert finished.message.response == DONE.response
    assert finished.lowest_unfinished == 1
    assert (await store.accept(new_message(session), EVERYTHING)).message.seq == 2


async def test_a_key_belongs_to_caller_and_session(store: SqlStore) -> None:
    session, other = await make(store), await make(store)
    key = {"idempotency_key": "k", "body_hash": "h"}
    accepted = [
        await store.accept(new_message(session, caller="web", **key), EVERYTHING),
        await store.accept(new_message(session, caller="app", **key), EVERYTHING),
        await store.accept(new_message(other, caller="web", **key), EVERYTHING),
    ]
    assert not any(one.repeated for one in accepted)
    assert len({one.message.id for one in accepted}) == 3


async def test_a_key_with_another_body_is_rejected(store: SqlStore) -> None:
    session = await make(store)
    await store.accept(new_message(session, idempotency_key="k", body_hash="h"), EVERYTHING)
    with pytest.raises(IdempotencyMismatch):
        await store.accept(new_message(session, idempotency_key="k", body_hash="other"), EVERYTHING)
    with pytest.raises(IdempotencyMismatch):
        await store.accept(new_message(session, idempotency_key="k"), EVERYTHING)
    assert (await store.accept(new_message(session), EVERYTHING)).message.seq == 2


async def test_a_repeated_key_reveals_nothing_to_other_users(store: SqlStore) -> None:
    session = await make(store, user="ann")
    await store.accept(new_message(session, idempotency_key="k", body_hash="h"), EVERYTHING)
    with pytest.raises(NotFound):
        await store.accept(new_message(session, idempotency_key="k", body_hash="other"), OwnedBy("bob"))
    await store.delete_session(session, EVERYTHING)
    with pytest.raises(NotFound):
        await store.accept(new_message(session, idempotency_key="k", body_hash="h"), EVERYTHING)


async def test_record_is_the_one_result(store: SqlStore) -> None:
    session = await make(store)
    message = await say(store, session)
    before = await store.get_session(session, EVERYTHING)
    await pass_time(store)
    assert await store.record(message, 1, DONE) == []
    recorded = await store.get_message(session, message, EVERYTHING)
    assert (recorded.status, recorded.response, recorded.error) == (MessageStatus.PROCESSED, DONE.response, None)
    touched = await store.get_session(session, EVERYTHING)
    assert touched.last_activity == recorded.finished_at
    assert touched.last_activity > before.last_activity
    assert touched.expires_at - touched.last_activity == before.expires_at - before.last_activity
    await pass_time(store)
    for attempt in (1, 2, None):
        assert await store.record(message, attempt, Outcome.failed("late"), [("late", "{}")]) is None
    assert await store.get_message(session, message, EVERYTHING) == recorded
    assert await store.get_session(session, EVERYTHING) == touched
    assert await store.events(session, 0, 10) == []


async def test_an_error_that_quotes_garbage_is_recorded(store: SqlStore) -> None:
    session = await make(store)
    message = await say(store, session)
    assert await store.record(message, 1, Outcome.failed("The pod said ü \0 \ud800")) == []
    assert (await store.get_message(session, message, EVERYTHING)).error == "The pod said ü \ufffd ?"


async def test_record_of_an_unknown_message(store: SqlStore) -> None:
    assert await store.record(new_id(), 1, DONE) is None
    assert await store.record(new_id(), None, DONE) is None


async def test_the_attempt_is_the_fence(store: SqlStore) -> None:
    session = await make(store)
    message = await say(store, session)
    redelivered = await store.begin_redelivery(message)
    assert redelivered is not None
    assert (redelivered.attempt, redelivered.deaths, redelivered.text) == (2, 0, "hello")
    assert await store.record(message, 1, DONE, [("reply", "{}")]) is None
    assert await store.record(message, 3, DONE) is None
    assert (await store.get_message(session, message, EVERYTHING)).finished_at is None
    assert await store.record(message, 2, Outcome.failed("It broke")) == []
    assert (await store.get_message(session, message, EVERYTHING)).error == "It broke"
    assert await store.begin_redelivery(message) is None
    assert await store.begin_redelivery(new_id()) is None


async def test_a_result_without_an_attempt_wins_over_any(store: SqlStore) -> None:
    session = await make(store)
    message = await say(store, session)
    await store.begin_redelivery(message)
    assert await store.record(message, None, Outcome.failed("cancelled")) == []
    assert await store.record(message, 2, DONE) is None


async def test_deaths_are_counted_for_the_open_attempt(store: SqlStore) -> None:
    session = await make(store)
    message = await say(store, session)
    assert await store.record_death(message, 1) == 1
    await store.begin_redelivery(message)
    assert await store.record_death(message, 1) is None
    assert await store.record_death(message, 2) == 2
    assert (await store.get_message(session, message, EVERYTHING)).deaths == 2
    await store.record(message, 2, DONE)
    assert await store.record_death(message, 2) is None
    assert await store.record_death(new_id(), 1) is None


async def test_events_are_numbered_per_session(store: SqlStore) -> None:
    session, other = await make(store), await make(store)
    first, second, third = await say(store, session), await say(store, session), await say(store, other)
    stored = await store.record(first, 1, DONE, [("tool", '{"n": 1}'), ("reply", '{"t": "ü"}')])
    finished_at = (await store.get_message(session, first, EVERYTHING)).finished_at
    assert finished_at is not None
    assert stored == [
        StoredEvent(1, "tool", first, '{"n": 1}', finished_at),
        StoredEvent(2, "reply", first, '{"t": "ü"}', finished_at),
    ]
    assert await store.record(second, 1, DONE) == []
    more = await store.record(await say(store, session), 1, DONE, [("reply", "{}")])
    assert more is not None
    assert [event.number for event in more] == [3]
    alone = await store.record(third, 1, DONE, [("reply", "{}")])
    assert alone is not None
    assert [event.number for event in alone] == [1]
    assert await store.events(session, 0, 10) == stored + more
    assert await store.events(session, 1, 1) == stored[1:]
    assert await store.events(session, 3, 10) == []
    assert await store.events(new_id(), 0, 10) == []


async def test_a_megabyte_is_kept(store: SqlStore) -> None:
    session = await make(store)
    text = "ü" * 500_000
    message = await say(store, session, text)
    await store.record(message, 1, Outcome.processed(f'"{text}"'), [("reply", f'"{text}"')])
    kept = await store.get_message(session, message, EVERYTHING)
    assert (kept.text, kept.response) == (text, f'"{text}"')
    assert (await store.events(session, 0, 10))[0].data == f'"{text}"'


async def test_messages_are_listed_by_seq(store: SqlStore) -> None:
    session = await make(store)
    await say(store, await make(store))
    ids = [await say(store, session, str(n)) for n in range(5)]
    assert [message.id for message in await store.list_messages(session, EVERYTHING, 10)] == ids
    assert [message.seq for message in await store.list_messages(session, OwnedBy("ann"), 2, 2)] == [3, 4]
    assert await store.list_messages(session, EVERYTHING, 2, 5) == []


async def test_a_page_ends_with_the_message_that_fills_it(store: SqlStore) -> None:
    session = await make(store)
    short, long, last = [await say(store, session, text) for text in ("x" * 10, "y" * 1000, "z")]
    for size, wanted in {1: [short], 10: [short], 11: [short, long], 1011: [short, long, last]}.items():
        page = await store.list_messages(session, EVERYTHING, 10, 0, size)
        assert [message.id for message in page] == wanted
    assert [message.id for message in await store.list_messages(session, EVERYTHING, 2, 1, 1)] == [long]


async def test_a_message_is_found_in_its_session_only(store: SqlStore) -> None:
    session, other = await make(store), await make(store)
    message = await say(store, session)
    for wrong in (other, new_id()):
        with pytest.raises(NotFound):
            await store.get_message(wrong, message, EVERYTHING)
    with pytest.raises(NotFound):
        await store.get_message(session, message, OwnedBy("bob"))
    with pytest.raises(NotFound):
        await store.get_message(session, new_id(), EVERYTHING)


async def test_unfinished_messages_are_found_session_by_session(store: SqlStore) -> None:
    assert not await store.has_unfinished()
    assert await store.backlog() == (0, None)
    made = {await make(store, class_name=name): name for name in ("default", "gpu")}
    sessions = sorted(made)
    ids = [await say(store, sessions[n % 2]) for n in range(6)]
    await store.record(ids[2], 1, DONE)
    now = await pass_time(store)
    found = await store.unfinished(now, 10)
    assert [one.id for one in found] == [ids[n] for n in (0, 4, 1, 3, 5)]
    assert [one.session for one in found] == [sessions[n] for n in (0, 0, 1, 1, 1)]
    assert [one.seq for one in found] == [1, 3, 1, 2, 3]
    assert [one.class_name for one in found] == [made[one.session] for one in found]
    page = await store.unfinished(now, 2)
    rest = await store.unfinished(now, 10, (page[-1].session, page[-1].seq))
    assert page + rest == found
    fourth = found[3].accepted_at
    assert [one.id for one in await store.unfinished(fourth, 10)] == [ids[n] for n in (0, 1)]
    assert [one.id for one in await store.unfinished(fourth, 1, (sessions[0], 1))] == [ids[1]]
    assert await store.unfinished_of(sessions[0]) == found[:2]
    assert await store.has_unfinished()
    assert await store.backlog() == (5, found[0].accepted_at)


async def test_pages_of_unfinished_messages_end_while_others_are_accepted(store: SqlStore) -> None:
    sessions = [await make(store) for _ in range(3)]
    ids = {await say(store, session) for session in sessions * 2}
    before = await pass_time(store)
    found: list[str] = []
    after = None
    while page := await store.unfinished(before, 2, after):
        found += [one.id for one in page]
        after = (page[-1].session, page[-1].seq)
        for session in sessions:
            await say(store, session)
    assert (len(found), set(found)) == (6, ids)


async def test_a_message_is_cancelled_once(store: SqlStore) -> None:
    session, other = await make(store), await make(store)
    message = await say(store, session)
    for where, which in ((other, message), (session, new_id()), (new_id(), message)):
        with pytest.raises(NotFound):
            await store.cancel(where, which, EVERYTHING)
    cancelled = await store.cancel(session, message, OwnedBy("ann"))
    assert (cancelled.message.status, cancelled.message.error) == (MessageStatus.FAILED, "cancelled")
    assert (cancelled.event.number, cancelled.event.kind) == (1, "turn.failed")
    assert await store.record(message, 1, DONE) is None
    with pytest.raises(Conflict):
        await store.cancel(session, message, EVERYTHING)
