"""Ids of messages."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from uuid import UUID

from session_manager.aio.ids import new_id

MANY = 5_000


def milliseconds() -> int:
    return time.time_ns() // 1_000_000


def test_ids_are_uuids_of_version_7():
    for _ in range(MANY):
        before = milliseconds()
        text = new_id()
        parsed = UUID(text)
        assert (str(parsed), parsed.version, parsed.variant) == (text, 7, "specified in RFC 4122")
        assert before <= parsed.int >> 80 <= milliseconds()


def test_every_random_bit_varies():
    """These are 74 bits: all except the time, the version and the variant."""
    always, ever = (1 << 80) - 1, 0
    for _ in range(MANY):
        low = UUID(new_id()).int & ((1 << 80) - 1)
        always, ever = always & low, ever | low
    assert (always, ever) == (0x7 << 76 | 0b10 << 62, 0x7 << 76 | 0xFFF << 64 | 0b10 << 62 | (1 << 62) - 1)


def test_ids_of_all_threads_are_unique():
    with ThreadPoolExecutor(8) as pool:
        batches = list(pool.map(lambda _: [new_id() for _ in range(MANY)], range(8)))
    assert len({each for batch in batches for each in batch}) == 8 * MANY
