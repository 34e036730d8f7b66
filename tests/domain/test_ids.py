"""Ids of messages."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from uuid import UUID

from session_manager.domain.ids import new_id

MANY = 5_000


def test_they_are_uuids_of_version_4():
    for _ in range(MANY):
        text = new_id()
        parsed = UUID(text)
        assert (str(parsed), parsed.version, parsed.variant) == (text, 4, "specified in RFC 4122")


def test_no_two_are_alike_whichever_thread_asks():
    with ThreadPoolExecutor(8) as pool:
        batches = list(pool.map(lambda _: [new_id() for _ in range(MANY)], range(8)))
    assert len({each for batch in batches for each in batch}) == 8 * MANY
