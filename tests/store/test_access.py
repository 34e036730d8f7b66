"""The predicate of rights on each engine: each statement that works for a caller has it."""

from __future__ import annotations

import pytest

from session_manager.domain.access import EVERYTHING, NOTHING, Access, Everything, OneSession, OwnedBy, Right
from session_manager.domain.errors import NotFound
from session_manager.domain.message import Attempt
from session_manager.store.sql import SqlStore
from tests.store.databases import DONE, make, new_id, new_message, say

RIGHT = {
    "get": Right.READ,
    "message": Right.READ,
    "messages": Right.READ,
    "accept": Right.WRITE,
    "repeat": Right.WRITE,
    "touch": Right.WAKE,
    "rename": Right.MANAGE,
    "cancel": Right.WRITE,
    "delete": Right.MANAGE,
}


async def act(store: SqlStore, what: str, session: str, message: str, access: Access) -> None:
    match what:
        case "get":
            await store.get_session(session, access)
        case "message":
            await store.get_message(session, message, access)
        case "messages":
            await store.list_messages(session, access, 10)
        case "accept":
            await store.accept(new_message(session), access)
        case "repeat":
            await store.accept(new_message(session, idempotency_key="k", body_hash="h"), access)
        case "touch":
            await store.touch_session(session, access)
        case "rename":
            await store.rename_session(session, "new", access)
        case "cancel":
            await store.cancel(session, message, access)
        case "delete":
            await store.delete_session(session, access)


@pytest.mark.parametrize("what", RIGHT)
@pytest.mark.parametrize(
    "who",
    [
        "everything",
        "owner",
        "stranger",
        "its class",
        "other classes",
        "owner of its class",
        "owner of none",
        "turn",
        "other turn",
        "ended turn",
        "later attempt",
        "anonymous",
    ],
)
async def test_each_access_reaches_what_it_may(store: SqlStore, what: str, who: str) -> None:
    session = await make(store, user="ann")
    message = await say(store, session)
    ended = (await store.accept(new_message(session, idempotency_key="k", body_hash="h"), EVERYTHING)).message.id
    await store.record(ended, 1, DONE)
    cases: dict[str, tuple[Access, bool]] = {
        "everything": (EVERYTHING, True),
        "owner": (OwnedBy("ann"), True),
        "stranger": (OwnedBy("bob"), False),
        "its class": (Everything(frozenset({"default", "x"})), True),
        "other classes": (Everything(frozenset({"x", "y"})), False),
        "owner of its class": (OwnedBy("ann", frozenset({"default"})), True),
        "owner of none": (OwnedBy("ann", frozenset()), False),
        "turn": (OneSession(session, Attempt(message, 1)), RIGHT[what] in (Right.READ, Right.WRITE)),
        "other turn": (OneSession(new_id(), Attempt(message, 1)), False),
        "ended turn": (OneSession(session, Attempt(ended, 1)), False),
        "later attempt": (OneSession(session, Attempt(message, 2)), False),
        "anonymous": (NOTHING, False),
    }
    access, reaches = cases[who]
    if reaches:
        await act(store, what, session, message, access)
    else:
        with pytest.raises(NotFound):
            await act(store, what, session, message, access)
        assert (await store.get_session(session, EVERYTHING)).name is None
        assert len(await store.list_messages(session, EVERYTHING, 10)) == 2
