"""google-adk's own services on our database: each side reads the other's data, and both write at once."""

from __future__ import annotations

import asyncio

import pytest
from sqlalchemy.exc import DBAPIError

from session_manager.domain.access import EVERYTHING, OwnedBy
from session_manager.domain.adk.model import AdkKey, AdkTurn
from session_manager.domain.errors import NotFound, StaleSession
from session_manager.store.protocol import AdkQuery
from session_manager.store.sql import SqlStore
from tests.adk.store.made import key_of, made, new_key, texts
from tests.adk.store.real import (
    AlreadyExistsError,
    BaseSessionService,
    Peers,
    StaleSessionError,
    adk_event,
    append_patiently,
    as_stored,
    get,
    names,
    same,
)
from tests.store.databases import DONE, Opened, new_session, say

STATE = {
    "app:a": [1, None],
    "user:u": {"x": {"y": None}},
    "temp:t": 1,
    "s": None,
    "ü": "☃😀",
    "big": 2**70,
    "f": 0.1 + 0.2,
}

APPENDS = {"native": 13, "asyncpg": 8, "psycopg": 4}  # of each of the sixteen writers; PostgreSQL is slower


async def compare(service: BaseSessionService, store: SqlStore, key: AdkKey) -> None:
    """Check that all reads are equal on both sides."""
    theirs = await service.list_sessions(app_name=key.app, user_id=key.user_id)
    ours = await store.adk_list(AdkQuery(key.app, OwnedBy(key.user_id)))
    assert len(theirs.sessions) == len(ours.sessions)
    for listed, our in zip(theirs.sessions, ours.sessions, strict=True):
        same(listed, our)
        same(await get(service, our.key), await store.adk_get(our.key))


async def test_they_read_what_we_wrote(store: SqlStore, peers: Peers) -> None:
    key = await made(store, state=STATE)
    door = await key_of(store, new_session(class_name=key.app))
    await store.adk_append(
        key, [as_stored(adk_event(f"n {n}", {"n": n, "user:n": n, "app:n": None})) for n in range(5)]
    )
    message = await say(store, door.id)
    turn = AdkTurn(as_stored(adk_event("said")), (as_stored(adk_event("reply", {"x": 1}, author="agent")),))
    await store.record(message, 1, DONE, [], turn)
    async with peers() as [service]:
        await compare(service, store, key)
        assert (await get(service, door)).state["x"] == 1
        user_state = await service.get_user_state(app_name=key.app, user_id=key.user_id)
        assert user_state == await store.adk_user_state(key.app, key.user_id)


async def test_we_read_what_they_wrote(store: SqlStore, peers: Peers) -> None:
    async with peers() as [service]:
        session = await service.create_session(app_name="theirs", user_id="ann", state=STATE)
        for n in range(5):
            await service.append_event(
                session, adk_event(f"{n}", {"n": n, "temp:x": 1, "user:n": {"n": n}, "app:a": None})
            )
        key = AdkKey("theirs", "ann", session.id)
        await compare(service, store, key)
        assert texts((await store.adk_get(key)).events) == list("01234")
        assert "temp:x" not in (await store.adk_get(key)).events[0]
        updated = await store.adk_append(key, [as_stored(adk_event("5"))])
        assert (await get(service, key)).last_update_time == updated
        await compare(service, store, key)


async def test_both_append_in_turn(store: SqlStore, peers: Peers) -> None:
    key = await made(store)
    async with peers() as [service]:
        for n in range(3):
            await service.append_event(await get(service, key), adk_event(f"their {n}", {"n": 2 * n}))
            assert (await store.adk_get(key)).state == {"n": 2 * n}
            await store.adk_append(key, [as_stored(adk_event(f"our {n}", {"n": 2 * n + 1}))])
            assert (await get(service, key)).state == {"n": 2 * n + 1}
        expected = [f"{whose} {n}" for n in range(3) for whose in ("their", "our")]
        assert texts((await store.adk_get(key)).events) == expected
        await compare(service, store, key)


async def test_stale_writers_are_rejected_in_both_directions(store: SqlStore, peers: Peers) -> None:
    key = await made(store)
    async with peers() as [service]:
        theirs, seen = await get(service, key), (await store.adk_get(key)).update_time
        await store.adk_append(key, [as_stored(adk_event("ours", timestamp=1.0))], seen=seen)
        with pytest.raises(StaleSessionError):
            await service.append_event(theirs, adk_event("late"))
        await say_and_record(store, key)
        with pytest.raises(StaleSessionError):
            await service.append_event(theirs, adk_event("late again"))
        seen = (await store.adk_get(key)).update_time
        await service.append_event(await get(service, key), adk_event("theirs"))
        with pytest.raises(StaleSession):
            await store.adk_append(key, [as_stored(adk_event("late"))], seen=seen)
        assert texts((await store.adk_get(key)).events) == ["ours", "reply", "theirs"]
        await compare(service, store, key)


async def say_and_record(store: SqlStore, key: AdkKey) -> None:
    message = await say(store, (await store.adk_record(key)).uuid)
    assert await store.record(message, 1, DONE, [], AdkTurn(None, (as_stored(adk_event("reply")),))) is not None


async def test_deleted_by_either_side(store: SqlStore, peers: Peers) -> None:
    ours, theirs = await made(store), await made(store)
    async with peers() as [service]:
        for key in (ours, theirs):
            await service.append_event(await get(service, key), adk_event())
        await store.delete_session((await store.adk_record(ours)).uuid, EVERYTHING)
        assert await service.get_session(**names(ours)) is None
        await service.delete_session(**names(theirs))
        with pytest.raises(NotFound):
            await store.adk_get(theirs)
        assert (await store.adk_list(AdkQuery(ours.app, EVERYTHING))).sessions == []
        made_again = await service.create_session(**names(ours))
        assert made_again.events == []
        same(await get(service, ours), await store.adk_get(ours))


async def test_nothing_is_lost_when_all_write_at_once(opened: Opened, store: SqlStore, peers: Peers) -> None:
    """Eight real services and eight of our stores write to four sessions with shared states."""
    each, keys, stores = APPENDS[peers.driver], [await made(store) for _ in range(4)], [store, await opened()]

    async def ours(n: int) -> None:
        key = keys[n % 4]
        for count in range(each):
            delta = {f"o{n}": count, f"app:o{n}": count, f"user:o{n}": count}
            await stores[n % 2].adk_append(key, [as_stored(adk_event(f"o{n} {count}", delta))])

    async def theirs(n: int, service: BaseSessionService) -> None:
        for count in range(each):
            event = adk_event(f"t{n} {count}", {f"t{n}": count})
            await append_patiently(service, keys[n % 4], event)

    async with peers(8) as services:
        await asyncio.gather(*(ours(n) for n in range(8)), *(theirs(n, service) for n, service in enumerate(services)))
        for which, key in enumerate(keys):
            session = await store.adk_get(key)
            writers = [f"{side}{n}" for side in "ot" for n in range(which, 8, 4)]
            assert sorted(texts(session.events)) == sorted(f"{who} {n}" for who in writers for n in range(each))
            assert {who: session.state[who] for who in writers} == dict.fromkeys(writers, each - 1)
            shared = {f"{scope}:o{n}": each - 1 for scope in ("app", "user") for n in range(8)}
            assert session.state.items() >= shared.items()
            await compare(services[0], store, key)


async def test_creating_and_deleting_on_both_sides_at_once(opened: Opened, store: SqlStore, peers: Peers) -> None:
    keys, other = [new_key() for _ in range(4)], await opened()
    async with peers(3) as services:
        turns = (flip(service, key) for service in services for key in keys * 3)
        await asyncio.gather(*turns, *(append_and_delete(which, key) for which in (store, other) for key in keys * 3))
        while await store.adk_sweep(100) != (0, []):
            pass
        for key in keys:
            await compare(services[0], store, key)


async def append_and_delete(store: SqlStore, key: AdkKey) -> None:
    try:
        await store.adk_append(key, [as_stored(adk_event())])
        await store.delete_session((await store.adk_record(key)).uuid, EVERYTHING)
    except NotFound:
        return


async def flip(service: BaseSessionService, key: AdkKey) -> None:
    """Create the session, or delete it if it exists."""
    try:
        if await service.get_session(**names(key)) is None:
            await service.create_session(**names(key))
        else:
            await service.delete_session(**names(key))
    except AlreadyExistsError:
        return
    except DBAPIError as error:  # a deadlock of two deletes and an append, which may be retried
        assert "deadlock" in str(error)  # noqa: PT017
