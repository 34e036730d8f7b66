"""Any history of one inbox has the same result as in a simple model."""

from __future__ import annotations

from dataclasses import dataclass, field

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from session_manager.domain.access import EVERYTHING
from session_manager.domain.errors import IdempotencyMismatch
from session_manager.domain.message import Outcome
from session_manager.store.sql import SqlStore
from tests.store.databases import make, new_message


@dataclass
class Entry:
    id: str
    attempt: int = 1
    deaths: int = 0
    result: str | None = None


@dataclass
class Inbox:
    """The expected messages and events of one session."""

    entries: list[Entry] = field(default_factory=list)
    keys: dict[str, tuple[str, int]] = field(default_factory=dict)
    events: list[str] = field(default_factory=list)

    def lowest(self, default: int) -> int:
        return min((seq for seq, entry in enumerate(self.entries, 1) if entry.result is None), default=default)


KEYS = st.sampled_from([None, None, "a", "b"])
WHICH = st.integers(0, 5)
STEPS = st.one_of(
    st.tuples(st.just("accept"), KEYS, st.sampled_from(["h", "h", "g"])),
    st.tuples(st.just("redeliver"), WHICH, st.none()),
    st.tuples(st.just("died"), WHICH, st.integers(1, 3)),
    st.tuples(st.just("record"), WHICH, st.tuples(st.sampled_from([None, 1, 2, 3]), st.integers(0, 2))),
)


async def accept(store: SqlStore, session: str, inbox: Inbox, key: str | None, body_hash: str) -> None:
    new = new_message(session, idempotency_key=key, body_hash=body_hash)
    known = inbox.keys.get(key) if key else None
    try:
        accepted = await store.accept(new, EVERYTHING)
    except IdempotencyMismatch:
        assert known is not None
        assert known[0] != body_hash
        return
    if known is not None:
        assert accepted.repeated
        assert accepted.message.seq == known[1]
        assert known[0] == body_hash
    else:
        inbox.entries.append(Entry(new.id))
        assert not accepted.repeated
        assert (accepted.message.id, accepted.message.seq) == (new.id, len(inbox.entries))
        if key:
            inbox.keys[key] = (body_hash, accepted.message.seq)
    assert accepted.lowest_unfinished == inbox.lowest(accepted.message.seq)


async def redeliver(store: SqlStore, entry: Entry) -> None:
    given = await store.begin_redelivery(entry.id)
    assert (given is None) == (entry.result is not None)
    if given is not None:
        entry.attempt += 1
        assert (given.attempt, given.deaths) == (entry.attempt, entry.deaths)


async def died(store: SqlStore, entry: Entry, attempt: int) -> None:
    open_one = entry.result is None and entry.attempt == attempt
    entry.deaths += open_one
    assert await store.record_death(entry.id, attempt) == (entry.deaths if open_one else None)


async def record(store: SqlStore, inbox: Inbox, entry: Entry, attempt: int | None, events: int) -> None:
    result = f'{{"n": {len(inbox.events)}}}'
    stored = await store.record(entry.id, attempt, Outcome.processed(result), [(entry.id, result)] * events)
    if entry.result is None and attempt in (None, entry.attempt):
        entry.result = result
        numbers = range(len(inbox.events) + 1, len(inbox.events) + events + 1)
        inbox.events += [entry.id] * events
        assert stored is not None
        assert [event.number for event in stored] == list(numbers)
    else:
        assert stored is None


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps=st.lists(STEPS, max_size=30))
async def test_any_history(store: SqlStore, steps: list[tuple]) -> None:
    session, inbox = await make(store), Inbox()
    for name, what, how in steps:
        if name == "accept":
            await accept(store, session, inbox, what, how)
        elif what < len(inbox.entries):
            entry = inbox.entries[what]
            match name:
                case "redeliver":
                    await redeliver(store, entry)
                case "died":
                    await died(store, entry, how)
                case "record":
                    await record(store, inbox, entry, *how)
    kept = [
        (message.id, message.attempt, message.deaths, message.response)
        for message in await store.list_messages(session, EVERYTHING, 100)
    ]
    assert kept == [(entry.id, entry.attempt, entry.deaths, entry.result) for entry in inbox.entries]
    assert [event.kind for event in await store.events(session, 0, 100)] == inbox.events
    unfinished = [one.seq for one in await store.unfinished_of(session)]
    assert unfinished == [seq for seq, entry in enumerate(inbox.entries, 1) if entry.result is None]
