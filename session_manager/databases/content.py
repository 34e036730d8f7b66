"""Converts rows from one engine to another, and compares the content of both."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import orjson

from session_manager.databases.database import Column, Kind, Row, RowRefused, Table

Change = Callable[[Any], Any]

_EPOCH = datetime(1970, 1, 1)  # noqa: DTZ001  ADK's columns have no zone, and mean UTC
_NUL = re.compile(r"(?<!\\)(?:\\\\)*\\u0000")  # an escape, and not a backslash followed by letters
_EXACT = 2**53  # whole numbers up to here are the same as a float
_MICROSECOND = timedelta(microseconds=1)


@dataclass(frozen=True, slots=True)
class TablePair:
    """Two tables of one name in two databases, and their common columns in the order of the source."""

    source: Table
    target: Table

    @property
    def pairs(self) -> list[tuple[Column, Column]]:
        there = {column.name: column for column in self.target.columns}
        return [(column, there[column.name]) for column in self.source.columns if column.name in there]

    @property
    def names(self) -> list[str]:
        return [column.name for column, _ in self.pairs]

    @property
    def missing(self) -> list[str]:
        """Return columns of the source that the target lacks."""
        return [name for name in self.source.names if name not in self.target.names]

    def fitter(self) -> Callable[[Row], Row]:
        """Return a function that converts a row for the target, and raises RowRefused if the row does not fit."""
        convert, misfit = self.converter(), self.misfit()

        def fit(row: Row) -> Row:
            converted = convert(row)
            reason = misfit(converted)
            if reason is not None:
                key = ", ".join(str(value)[:80] for value in key_of(self.source, row))
                raise RowRefused(f"{self.source.name} ({key}): {reason}")
            return converted

        return fit

    def converter(self) -> Callable[[Row], Row]:
        """Return a function that makes a row of the common columns for the target from a row of the source."""
        changes = [_change(here.kind, there.kind) for here, there in self.pairs]
        return lambda row: tuple(
            value if change is None or value is None else change(value)
            for change, value in zip(changes, row, strict=False)
        )

    def misfit(self) -> Callable[[Row], str | None]:
        """Return a function that says why a converted row cannot be stored, as "column: reason", or None."""
        checks = [(there, here.kind is Kind.TEXT or there.kind is Kind.JSON) for here, there in self.pairs]

        def look(row: Row) -> str | None:
            for (column, is_text), value in zip(checks, row, strict=False):
                reason = _misfit(column, value) if is_text or value is None else None
                if reason:
                    return f"{column.name}: {reason}"
            return None

        return look

    def fingerprint(self, side: Table) -> Callable[[Row], int]:
        """Return a function that hashes a row of ``side`` to 256 bits. Its copy on the other side has the same hash."""
        kinds = {here.name: _common(here.kind, there.kind) for here, there in self.pairs}
        forms = [(number, _FORMS.get(kinds[name], _plain)) for number, name in enumerate(side.names) if name in kinds]
        order = sorted(forms, key=lambda form: side.names[form[0]])
        return lambda row: _digest(form(row[number]) for number, form in order)


def _change(here: Kind, there: Kind) -> Change | None:
    if here is Kind.REAL and there is Kind.TIME:
        return lambda seconds: _EPOCH + timedelta(microseconds=round(seconds * 1e6))
    if here is Kind.TIME and there is Kind.REAL:
        return lambda moment: _micros(moment) / 1e6
    return None


def _micros(moment: datetime | float) -> int:
    return (moment - _EPOCH) // _MICROSECOND if isinstance(moment, datetime) else round(moment * 1e6)


def _common(here: Kind, there: Kind) -> Kind:
    """Return the kind that both can hold: a timestamp has microseconds, a JSON tree no spaces and no order of keys."""
    for kind in (Kind.TIME, Kind.JSON):
        if here is not there and kind in (here, there):
            return kind
    return here


def _misfit(column: Column, value: Any) -> str | None:
    if value is None:
        return "must not be empty" if column.required else None
    if column.limit is not None and len(value) > column.limit:
        return f"longer than {column.limit} characters"
    if column.kind is Kind.JSON:
        return _json_misfit(value)
    return "contains a NUL" if isinstance(value, str) and "\0" in value else None


def _json_misfit(text: str) -> str | None:
    """Return the reason why PostgreSQL's JSONB cannot store a text, or None."""
    try:
        orjson.loads(text)
    except orjson.JSONDecodeError as error:
        return f"is not valid JSON for PostgreSQL ({str(error).partition(':')[0]})"
    return "contains a NUL" if "\\u0000" in text and _NUL.search(text) else None


def _plain(value: Any) -> bytes:
    return repr(value).encode("utf-8", "surrogatepass")


def _time(value: Any) -> bytes:
    return b"None" if value is None else str(_micros(value)).encode()


def _tree(value: str | None) -> bytes:
    return b"None" if value is None else orjson.dumps(_numbers(orjson.loads(value)), option=orjson.OPT_SORT_KEYS)


def _numbers(tree: Any) -> Any:
    """Return the tree with each number in one form: PostgreSQL writes 1e16 with digits that a float does not have."""
    if isinstance(tree, dict):
        return {name: _numbers(value) for name, value in tree.items()}
    if isinstance(tree, list):
        return [_numbers(value) for value in tree]
    if isinstance(tree, float) and tree.is_integer() and abs(tree) <= _EXACT:
        return int(tree)
    return float(tree) if isinstance(tree, int) and abs(tree) > _EXACT else tree


_FORMS: dict[Kind, Callable[[Any], bytes]] = {
    Kind.TIME: _time,
    Kind.JSON: _tree,
}


def _digest(parts: Iterable[bytes]) -> int:
    whole = hashlib.sha256()
    for part in parts:
        whole.update(len(part).to_bytes(8, "big"))
        whole.update(part)
    return int.from_bytes(whole.digest(), "big")


@dataclass(slots=True)
class Content:
    """A summary of rows in any order: their number and the sum of their fingerprints."""

    rows: int = 0
    total: int = 0

    def add(self, fingerprint: int) -> None:
        self.rows += 1
        self.total = (self.total + fingerprint) % 2**256

    @property
    def hash(self) -> str:
        return f"{self.total:064x}"


def key_of(table: Table, row: Sequence[Any]) -> tuple[Any, ...]:
    """Return the values of a row's primary key."""
    return tuple(row[table.names.index(name)] for name in table.key)
