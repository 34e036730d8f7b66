"""Single sessions."""

from __future__ import annotations

import pytest

from session_manager.domain.access import EVERYTHING, OwnedBy
from session_manager.domain.errors import Conflict, NotFound
from session_manager.domain.session import Failure, Status, cold_status
from session_manager.domain.times import Micros
from session_manager.store.sql import SqlStore
from tests.store.after_commit import Failing
from tests.store.databases import DAY, Database, Opened, make, new_id, new_message, new_session, pass_time, say

FAILURE = Failure("ImagePullBackOff", "Check the name of the image.", Micros(7), 3)


async def test_a_new_session_has_the_given_fields(store: SqlStore) -> None:
    before = await store.now()
    new = new_session(user="ann", ttl=DAY, class_name="gpu", name="Première ✨")
    made = await store.create_session(new)
    assert (made.uuid, made.user_id, made.class_name, made.name) == (new.uuid, "ann", "gpu", "Première ✨")
    assert (made.app, made.adk_id) == ("gpu", new.uuid)
    assert before <= made.created_at == made.last_activity <= await store.now()
    assert made.expires_at == made.created_at + DAY
    assert (made.woken_at, made.expired_at, made.failure) == (None, None, None)
    assert await store.get_session(new.uuid, EVERYTHING) == made


async def test_an_id_is_used_once(store: SqlStore) -> None:
    new = new_session()
    made = await store.create_session(new)
    with pytest.raises(Conflict):
        await store.create_session(new)
    await store.delete_session(new.uuid, EVERYTHING)
    with pytest.raises(Conflict):
        await store.create_session(new)
    assert made.uuid == new.uuid


@pytest.mark.parametrize("call", ["get_session", "touch_session", "delete_session", "rename", "accept", "list"])
@pytest.mark.parametrize("why", ["unknown", "deleted", "of another user"])
async def test_sessions_of_other_users_are_not_found(store: SqlStore, call: str, why: str) -> None:
    session = new_id() if why == "unknown" else await make(store, user="ann")
    if why == "deleted":
        await store.delete_session(session, EVERYTHING)
    access = OwnedBy("bob") if why == "of another user" else EVERYTHING
    with pytest.raises(NotFound):
        match call:
            case "rename":
                await store.rename_session(session, "x", access)
            case "accept":
                await store.accept(new_message(session), access)
            case "list":
                await store.list_messages(session, access, 10)
            case _:
                await getattr(store, call)(session, access)
    if why == "of another user":
        assert (await store.get_session(session, OwnedBy("ann"))).name is None
        assert await store.list_messages(session, OwnedBy("ann"), 10) == []


async def test_rename(store: SqlStore) -> None:
    session = await make(store, name="old")
    before = await store.get_session(session, EVERYTHING)
    renamed = await store.rename_session(session, "new", OwnedBy("ann"))
    assert renamed.name == "new"
    assert renamed.last_activity == before.last_activity
    assert (await store.rename_session(session, None, EVERYTHING)).name is None
    assert (await store.get_session(session, EVERYTHING)).name is None


async def test_touch_moves_the_expiry_and_revives(store: SqlStore) -> None:
    session = await make(store, ttl=5)
    made = await store.get_session(session, EVERYTHING)
    await pass_time(store)
    assert await store.expire(session, made.last_activity)
    touched = await store.touch_session(session, OwnedBy("ann"))
    assert touched.last_activity > made.last_activity
    assert touched.expires_at == touched.last_activity + 5
    assert touched.expired_at is None
    assert touched == await store.get_session(session, EVERYTHING)


async def test_touch_makes_the_next_try_due(store: SqlStore) -> None:
    session = await make(store)
    assert (await store.touch_session(session, EVERYTHING)).failure is None
    far = await store.now() + DAY
    await store.record_failure(session, Failure("Crash", "Look at the logs.", Micros(far), 2))
    touched = await store.touch_session(session, EVERYTHING)
    assert touched.failure == Failure("Crash", "Look at the logs.", touched.last_activity, 2)


async def test_the_first_wake_is_kept_and_ends_a_failure(store: SqlStore) -> None:
    session = await make(store)
    await store.record_failure(session, FAILURE)
    failed = await store.get_session(session, EVERYTHING)
    assert failed.failure == FAILURE
    assert cold_status(failed) is Status.FAILED
    await store.record_wake(session)
    woken = await store.get_session(session, EVERYTHING)
    assert woken.failure is None
    assert woken.woken_at is not None
    await pass_time(store)
    await store.record_wake(session)
    assert (await store.get_session(session, EVERYTHING)).woken_at == woken.woken_at
    assert woken.last_activity == failed.last_activity


async def test_a_failure_replaces_the_one_before(store: SqlStore) -> None:
    session = await make(store)
    await store.record_failure(session, FAILURE)
    again = Failure("Crash", "Look at the logs.", Micros(9), 4)
    await store.record_failure(session, again)
    assert (await store.get_session(session, EVERYTHING)).failure == again


async def test_wakes_and_failures_of_unknown_sessions_are_ignored(store: SqlStore, database: Database) -> None:
    session = await make(store)
    await store.delete_session(session, EVERYTHING)
    for gone in (session, new_id()):
        await store.record_wake(gone)
        await store.record_failure(gone, FAILURE)
    assert await database.rows("SELECT woken_at, failed_at FROM session") == [(None, None)]


async def test_data_survives_a_restart(store: SqlStore, database: Database) -> None:
    session = await make(store, name="kept")
    message = await say(store, session, "remember")
    await store.close()
    again = database.store()
    await again.start()
    assert (await again.get_session(session, EVERYTHING)).name == "kept"
    assert (await again.get_message(session, message, EVERYTHING)).text == "remember"
    await again.close()


async def test_ping_and_now(store: SqlStore) -> None:
    await store.ping()
    first = await store.now()
    assert await pass_time(store) > first > 1_600_000_000_000_000


async def test_a_secret_that_exists_is_read_without_a_write(opened: Opened, store: SqlStore) -> None:
    first = await store.secret("name")
    assert len(first) > 30
    other = await opened()
    failing = Failing(other)
    assert await other.secret("name") == first
    assert not failing.committed
    failing.end()
    assert await other.secret("another") != first


async def test_the_uri_has_no_password(store: SqlStore) -> None:
    assert store.uri.startswith(("sqlite:///", "postgresql://127.0.0.1"))
    assert "@" not in store.uri
