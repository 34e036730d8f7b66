"""Rows are compared independently of the engine that wrote them."""

from __future__ import annotations

import asyncio
import json
from datetime import datetime

import asyncpg
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from session_manager.databases.content import TablePair
from session_manager.databases.database import Column, Kind, Table
from tests.servers.postgres import PostgresServer

NAMES = ("id", "state", "update_time")
SQLITE = Table("t", tuple(map(Column, NAMES, (Kind.TEXT, Kind.TEXT, Kind.REAL))), ("id",), ("rowid",))
POSTGRES = Table(
    "t",
    (Column("id", Kind.TEXT, required=True, limit=5), Column("state", Kind.JSON), Column("update_time", Kind.TIME)),
    ("id",),
    ("id",),
)
THERE, BACK = TablePair(SQLITE, POSTGRES), TablePair(POSTGRES, SQLITE)

TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"))
NUMBERS = (
    st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.sampled_from([1e16, 1e20, 1e300, -0.0, 2**64])
)
TREES = st.recursive(
    st.none() | st.booleans() | NUMBERS | TEXT, lambda inner: st.lists(inner) | st.dictionaries(TEXT, inner)
)


def test_a_row_stored_by_postgresql_has_the_same_fingerprint(postgres: PostgresServer):
    with asyncio.Runner() as runner:
        connection = runner.run(asyncpg.connect(postgres.uri))

        @settings(max_examples=150, deadline=None, database=None)
        @given(tree=TREES, seconds=st.floats(0, 4e9))
        def check(tree: object, seconds: float) -> None:
            row = ("x", json.dumps(tree), seconds)
            sent = THERE.converter()(row)
            assert THERE.misfit()(sent) is None
            [kept] = runner.run(connection.fetch("SELECT $1::varchar, $2::jsonb, $3::timestamp", *sent))
            assert THERE.fingerprint(POSTGRES)(tuple(kept)) == THERE.fingerprint(SQLITE)(row)
            back = BACK.converter()(tuple(kept))
            assert BACK.fingerprint(SQLITE)(back) == BACK.fingerprint(POSTGRES)(tuple(kept))

        try:
            check()
        finally:
            runner.run(connection.close())


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (("x", '{"a": 1}', 1.0), ("x", '{"a": 2}', 1.0)),
        (("x", '{"a": 1}', 1.0), ("x", '{"a": "1"}', 1.0)),
        (("x", '{"a": null}', 1.0), ("x", "{}", 1.0)),
        (("x", "{}", 1.0), ("x", "{}", 1.000001)),
        (("x", "{}", 1.0), ("y", "{}", 1.0)),
        (("x", "{}", 1.0), ("x", None, 1.0)),
    ],
)
def test_different_rows_have_different_fingerprints(one: tuple[object, ...], other: tuple[object, ...]):
    fingerprint = THERE.fingerprint(SQLITE)
    assert fingerprint(one) != fingerprint(other)


def test_equal_rows_have_equal_fingerprints():
    fingerprint = THERE.fingerprint(SQLITE)
    assert fingerprint(("x", '{"b": 1e3, "a": [1.0]}', 1.5)) == fingerprint(("x", '{"a":[1],"b":1000}', 1.5000000001))
    assert THERE.converter()(("x", "{}", 1.5)) == ("x", "{}", datetime(1970, 1, 1, 0, 0, 1, 500_000))


@pytest.mark.parametrize(
    ("row", "words"),
    [
        (("123456", "{}", 1.0), "id: longer than 5 characters"),
        ((None, "{}", 1.0), "id: must not be empty"),
        (("\0", "{}", 1.0), "id: contains a NUL"),
        (("x", '{"a": "\\u0000"}', 1.0), "state: contains a NUL"),
        (("x", '{"a": "\\ud800"}', 1.0), "state: is not valid JSON"),
        (("x", '{"a": NaN}', 1.0), "state: is not valid JSON"),
        (("x", '{"a": "\\\\u0000"}', 1.0), None),
        (("x", None, 1.0), None),
    ],
)
def test_rows_that_do_not_fit(row: tuple[object, ...], words: str | None):
    reason = THERE.misfit()(THERE.converter()(row))
    assert reason is None if words is None else (reason or "").startswith(words)
