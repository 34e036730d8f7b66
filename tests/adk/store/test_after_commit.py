"""Each operation that writes returns its result, and does nothing after its commit that could fail.

Otherwise the caller would get a 503, which promises that nothing was committed.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import pytest

from session_manager.domain.access import EVERYTHING
from session_manager.domain.adk.model import AdkKey, AdkTurn, NewAdkSession
from session_manager.domain.message import Attempt
from session_manager.domain.session import Failure
from session_manager.domain.times import Micros
from session_manager.store.protocol import Artifact, Store
from session_manager.store.sql import SqlStore
from tests.adk.store.made import event, made, new_key
from tests.store.after_commit import Failing
from tests.store.databases import DAY, DONE, new_id, new_message, new_session, say

Write = Callable[[SqlStore, AdkKey, str, Attempt], Awaitable[object]]
"""An operation on a session, given by its key and its uuid, which has an unfinished message."""

WRITES: dict[str, Write] = {
    "create_session": lambda store, *_: store.create_session(new_session()),
    "adopt_session": lambda store, *_: store.adopt_session(new_session()),
    "rename_session": lambda store, key, uuid, _: store.rename_session(uuid, "new", EVERYTHING),
    "touch_session": lambda store, key, uuid, _: store.touch_session(uuid, EVERYTHING),
    "record_wake": lambda store, key, uuid, _: store.record_wake(uuid),
    "record_failure": lambda store, key, uuid, _: store.record_failure(uuid, Failure("Crash", "Look.", Micros(1), 1)),
    "expire": lambda store, key, uuid, _: store.expire(uuid, Micros(1)),
    "delete_session": lambda store, key, uuid, _: store.delete_session(uuid, EVERYTHING),
    "reopen_teardowns": lambda store, *_: store.reopen_teardowns(),
    "drop_tombstones": lambda store, *_: store.drop_tombstones(Micros(1)),
    "accept": lambda store, key, uuid, _: store.accept(new_message(uuid), EVERYTHING),
    "begin_redelivery": lambda store, key, uuid, attempt: store.begin_redelivery(attempt.message_id),
    "record_death": lambda store, key, uuid, attempt: store.record_death(*attempt),
    "record": lambda store, key, uuid, attempt: store.record(*attempt, DONE, [], AdkTurn(event(), (event(),))),
    "cancel": lambda store, key, uuid, attempt: store.cancel(uuid, attempt.message_id, EVERYTHING),
    "adk_create": lambda store, *_: store.adk_create(NewAdkSession(new_id(), new_key(), "default", Micros(DAY))),
    "adk_append": lambda store, key, *_: store.adk_append(key, [event()]),
    "adk_change": lambda store, key, *_: store.adk_change(key, [event(delta={"n": 1})]),
    "save_artifact": lambda store, key, *_: store.save_artifact(key, Artifact("a", 0, "{}", None, "{}", 0.0)),
    "delete_artifact": lambda store, key, *_: store.delete_artifact(key, "a"),
    "remember": lambda store, key, *_: store.remember(key),
    "secret": lambda store, *_: store.secret("name"),
}
READS = {
    *("usage", "ping", "now", "get_session", "list_sessions", "count_sessions", "expirable", "deleted_sessions"),
    *("get_message", "list_messages", "events", "backlog", "has_unfinished", "unfinished", "unfinished_of"),
    *("adk_user_state", "adk_behind", "artifact_names", "artifact", "artifact_versions", "search_memory"),
    # These reconcile with ADK services and turns if necessary, and then read.
    *("adk_record", "adk_get", "adk_list"),
}
OTHERS = {
    *("uri", "start", "close"),
    # They commit in steps that may be repeated, and no caller of the API waits for them.
    *("purge_session", "adk_sweep", "adk_catch_up"),
}


def test_every_operation_is_known() -> None:
    operations = {name for each in Store.__mro__ for name in vars(each) if not name.startswith("_")}
    assert operations == {*WRITES, *READS, *OTHERS}


@pytest.mark.parametrize("spaces", ["", " "])
@pytest.mark.parametrize("name", WRITES)
async def test_nothing_follows_the_commit(store: SqlStore, name: str, spaces: str) -> None:
    key = await made(store)
    uuid = (await store.adk_record(key)).uuid
    attempt = Attempt(await say(store, uuid), 1)
    failing = Failing(store)
    await WRITES[name](store, key._replace(id=spaces + key.id), uuid, attempt)
    assert failing.committed
    failing.end()


async def test_a_cancelled_message_is_returned_as_it_is_now(store: SqlStore) -> None:
    uuid = (await store.create_session(new_session())).uuid
    message = await say(store, uuid)
    cancelled = await store.cancel(uuid, message, EVERYTHING)
    assert cancelled.message == await store.get_message(uuid, message, EVERYTHING)
    assert [cancelled.event] == await store.events(uuid, 0, 9)
    assert cancelled.class_name == "default"


async def test_a_changed_session_is_returned_as_it_is_now(store: SqlStore) -> None:
    key = await made(store, state={"n": 1, "m": 2})
    await store.adk_append(key, [event(text="before")])
    changed = await store.adk_change(key._replace(id=f" {key.id} "), [event(2e9, delta={"n": 3, "user:u": 4})])
    assert changed == await store.adk_get(key)
    assert changed.state == {"n": 3, "m": 2, "user:u": 4}
