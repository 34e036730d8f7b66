"""Lists and counts, compared with a listing in Python."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from session_manager.domain.access import EVERYTHING, NOTHING, Access, OneSession, OwnedBy
from session_manager.domain.message import Attempt
from session_manager.domain.session import COLD_SQL, Failure, Session, Status, cold_status
from session_manager.domain.times import Micros
from session_manager.store.protocol import SessionPage, SessionQuery
from session_manager.store.sql import SqlStore
from tests.store.databases import DAY, Database, make, new_session

ALL = frozenset(COLD_SQL)
USERS = ("ann", "bob", "Çelik")
CLASSES = ("default", "gpu")


async def every_status(store: SqlStore, user: str = "ann", class_name: str = "default") -> dict[Status, str]:
    """Create a session of each cold status."""
    made = {status: await make(store, user=user, class_name=class_name, ttl=1) for status in COLD_SQL}
    for status in (Status.SLEEPING, Status.FAILED, Status.EXPIRED):
        await store.record_wake(made[status])
    for status in (Status.FAILED, Status.EXPIRED):
        await store.record_failure(made[status], Failure("Crash", "Look.", Micros(1), 1))
    expired = await store.get_session(made[Status.EXPIRED], EVERYTHING)
    assert await store.expire(expired.uuid, expired.last_activity)
    return made


def visible(session: Session, access: Access) -> bool:
    match access:
        case OwnedBy(user):
            return session.user_id == user
        case OneSession(uuid):
            return session.uuid == uuid
    return access is EVERYTHING


def expected(sessions: list[Session], query: SessionQuery) -> list[Session]:
    """Return all rows of the query, as the docstring of SessionQuery describes them."""

    def wanted(session: Session) -> bool:
        if not visible(session, query.access):
            return False
        if any(getattr(query, name) not in (None, getattr(session, name)) for name in ("user_id", "app", "adk_id")):
            return False
        if session.uuid in query.hot_ids:
            return session.uuid in query.hot_wanted
        return cold_status(session) in query.cold

    return sorted(filter(wanted, sessions), key=lambda session: (session.created_at, session.uuid), reverse=True)


async def pages(store: SqlStore, query: SessionQuery) -> list[SessionPage]:
    found = [await store.list_sessions(query)]
    while found[-1].next_after is not None:
        found.append(await store.list_sessions(replace(query, after=found[-1].next_after)))
    return found


async def test_the_status_in_sql_is_the_status_in_python(store: SqlStore) -> None:
    made = await every_status(store)
    for status, uuid in made.items():
        session = await store.get_session(uuid, EVERYTHING)
        assert cold_status(session) is status
        page = await store.list_sessions(SessionQuery(EVERYTHING, cold=frozenset([status])))
        assert page == SessionPage(1, [session])
    assert await store.count_sessions() == dict.fromkeys(COLD_SQL, 1)


async def test_counts_among_some_ids(store: SqlStore) -> None:
    made = await every_status(store)
    gone = await make(store)
    await store.delete_session(gone, EVERYTHING)
    among = frozenset([made[Status.FAILED], made[Status.CREATED], gone, "no uuid"])
    zeros = dict.fromkeys(COLD_SQL, 0)
    assert await store.count_sessions(among) == zeros | {Status.FAILED: 1, Status.CREATED: 1}
    assert await store.count_sessions(frozenset()) == zeros


async def test_nothing_to_list(store: SqlStore) -> None:
    assert await store.list_sessions(SessionQuery(EVERYTHING, cold=ALL)) == SessionPage(0)
    assert await store.count_sessions() == dict.fromkeys(COLD_SQL, 0)


async def test_deleted_sessions_are_in_no_list(store: SqlStore) -> None:
    gone = await make(store)
    await store.delete_session(gone, EVERYTHING)
    hot = frozenset([gone])
    assert await store.list_sessions(SessionQuery(EVERYTHING, cold=ALL, hot_ids=hot, hot_wanted=hot)) == SessionPage(0)
    assert await store.count_sessions() == dict.fromkeys(COLD_SQL, 0)


async def test_hot_sessions_are_listed_by_what_redis_says(store: SqlStore) -> None:
    made = await every_status(store)
    awake, other = made[Status.SLEEPING], made[Status.FAILED]
    hot = frozenset([awake, other])
    only_hot = await store.list_sessions(SessionQuery(EVERYTHING, hot_ids=hot, hot_wanted=frozenset([awake])))
    assert [session.uuid for session in only_hot.sessions] == [awake]
    assert only_hot.total == 1
    cold = await store.list_sessions(
        SessionQuery(EVERYTHING, cold=frozenset([Status.SLEEPING, Status.CREATED]), hot_ids=hot)
    )
    assert [session.uuid for session in cold.sessions] == [made[Status.CREATED]]
    assert cold.total == 1


@pytest.fixture
async def crowd(store: SqlStore, database: Database) -> list[Session]:
    """Create sessions of each status, class and user, some in the same microsecond. Two have an open message."""
    for user in USERS:
        for class_name in CLASSES:
            await every_status(store, user, class_name)
    await database.rows("UPDATE session SET created_at = 7 WHERE user_id = 'bob'")
    page = await store.list_sessions(SessionQuery(EVERYTHING, cold=ALL, limit=500))
    for session in page.sessions[:2]:
        values = f"'{session.uuid}', '{session.uuid}', 1, 'web', 'hello', 7"
        await database.rows(f"INSERT INTO message (id, session, seq, caller, text, accepted_at) VALUES ({values})")
    return page.sessions


def turn_in(session: str) -> OneSession:
    return OneSession(session, Attempt(session, 1))


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
async def test_any_query_returns_the_expected_sessions(
    store: SqlStore, crowd: list[Session], data: st.DataObject
) -> None:
    assert len(crowd) == len(USERS) * len(CLASSES) * len(COLD_SQL)
    ids = [session.uuid for session in crowd]
    hot = data.draw(st.frozensets(st.sampled_from(ids), max_size=6))
    accesses: list[Access] = [EVERYTHING, NOTHING, *map(OwnedBy, USERS), *map(turn_in, ids[:2])]
    query = SessionQuery(
        access=data.draw(st.sampled_from(accesses)),
        user_id=data.draw(st.sampled_from([None, None, *USERS, "unknown"])),
        app=data.draw(st.sampled_from([None, None, *CLASSES])),
        adk_id=data.draw(st.sampled_from([None, None, None, ids[0]])),
        cold=data.draw(st.frozensets(st.sampled_from(sorted(ALL)))),
        hot_ids=hot,
        hot_wanted=frozenset(data.draw(st.lists(st.sampled_from(sorted(hot))))) if hot else frozenset(),
        limit=data.draw(st.integers(1, 30)),
    )
    wanted = expected(crowd, query)
    found = await pages(store, query)
    assert [session for page in found for session in page.sessions] == wanted
    assert {page.total for page in found} == {len(wanted)}
    assert all(len(page.sessions) == query.limit for page in found[:-1])


async def test_ten_thousand_sessions_across_pages(store: SqlStore, database: Database) -> None:
    await store.create_session(new_session(ttl=DAY))
    columns = "user_id, app, adk_id, class_name, ttl, last_activity, expires_at"
    await database.rows(
        f"INSERT INTO session (uuid, created_at, {columns}) "
        f"WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 9999) "
        f"SELECT 'id-' || (i * 7919 % 10007), i / 3, 'user-' || (i % 7), app, 'id-' || i, class_name, ttl, i, i "
        f"FROM n, session"
    )
    query = SessionQuery(EVERYTHING, cold=ALL, limit=500)
    found = await pages(store, query)
    sessions = [session for page in found for session in page.sessions]
    assert [page.total for page in found] == [10_000] * 20
    keys = [(session.created_at, session.uuid) for session in sessions]
    assert keys == sorted(set(keys), reverse=True)
    assert len(keys) == 10_000
    hot = frozenset(session.uuid for session in random.sample(sessions, 300))
    mine = await pages(store, SessionQuery(OwnedBy("user-3"), cold=ALL, hot_ids=hot, limit=500))
    expected_mine = [one for one in sessions if one.user_id == "user-3" and one.uuid not in hot]
    assert [session for page in mine for session in page.sessions] == expected_mine
    assert {page.total for page in mine} == {len(expected_mine)}
