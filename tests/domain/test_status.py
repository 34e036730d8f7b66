"""The status table is the same in its docstring, in Python and in SQL."""

from __future__ import annotations

import itertools
import re
import sqlite3

import pytest

from session_manager.domain import session as module
from session_manager.domain.session import COLD_SQL, HOT, Failure, Hot, Session, Status, cold_status, status_of
from session_manager.domain.times import Micros

FAILURE = Failure("Crash", "Look at the logs.", Micros(1), 1)
COLUMNS = list(itertools.product([False, True], repeat=3))


def session(expired: bool, failed: bool, woken: bool) -> Session:
    zero = Micros(0)
    return Session(
        uuid="u",
        user_id="ann",
        app="default",
        adk_id="u",
        class_name="default",
        name=None,
        created_at=zero,
        last_activity=zero,
        expires_at=zero,
        woken_at=zero if woken else None,
        expired_at=zero if expired else None,
        failure=FAILURE if failed else None,
    )


def documented() -> list[tuple[Status, list[str]]]:
    """Return the rows of the table in the docstring: a status, and yes, no or any for each column."""
    found = re.findall(r"^(\w+) +((?:(?:yes|no|any) *){5})$", module.__doc__ or "", re.M)
    return [(Status(name), cells.split()) for name, cells in found]


def test_the_table_has_every_status() -> None:
    assert sorted(name for name, _ in documented()) == sorted(Status)


@pytest.mark.parametrize(("wanted", "address"), list(itertools.product([False, True], repeat=2)))
@pytest.mark.parametrize(("expired", "failed", "woken"), COLUMNS)
def test_the_table_is_what_the_function_does(
    wanted: bool, address: bool, expired: bool, failed: bool, woken: bool
) -> None:
    facts = (wanted, address, expired, failed, woken)
    fits = {"yes": lambda fact: fact, "no": lambda fact: not fact, "any": lambda _: True}
    [expected] = [
        name for name, cells in documented() if all(fits[cell](fact) for cell, fact in zip(cells, facts, strict=True))
    ]
    assert status_of(session(expired, failed, woken), Hot(wanted=wanted, address=address)) is expected


@pytest.mark.parametrize(("expired", "failed", "woken"), COLUMNS)
def test_exactly_one_predicate_holds_and_it_is_the_status(expired: bool, failed: bool, woken: bool) -> None:
    row = {"expired_at": expired, "failed_at": failed, "woken_at": woken}
    columns = ", ".join(f"{'0' if there else 'NULL'} AS {name}" for name, there in row.items())
    connection = sqlite3.connect(":memory:")
    holding = [
        name
        for name, predicate in COLD_SQL.items()
        if connection.execute(f"SELECT 1 FROM (SELECT {columns}) WHERE {predicate}").fetchall()
    ]
    connection.close()
    assert holding == [cold_status(session(expired, failed, woken))]


def test_a_status_is_either_hot_or_cold() -> None:
    assert {*HOT, *COLD_SQL} == set(Status)
    assert not set(HOT) & set(COLD_SQL)


@pytest.mark.parametrize(("expired", "failed", "woken"), COLUMNS)
def test_a_failure_that_is_only_in_redis(expired: bool, failed: bool, woken: bool) -> None:
    found = status_of(session(expired, failed, woken), Hot(failure=FAILURE))
    assert found is (Status.EXPIRED if expired else Status.FAILED)
    assert status_of(session(expired, failed, woken), Hot(wanted=True, failure=FAILURE)) is Status.WAKING
