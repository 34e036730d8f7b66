"""A row on its way from one engine to the other, and what two rows have to have in common to be the same."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import orjson

from session_manager.databases.engine import Row
from session_manager.databases.tables import Column, Kind, Table

Change = Callable[[Any], Any]

_EPOCH = datetime(1970, 1, 1)  # noqa: DTZ001  ADK's columns have no zone, and mean UTC
_NUL = re.compile(r"(?<!\\)(?:\\\\)*\\u0000")  # an escape, and not a backslash with letters behind it
_EXACT = 2**53  # whole numbers up to here are the same as a float
_MICROSECOND = timedelta(microseconds=1)


@dataclass(frozen=True, slots=True)
class Mapping:
    """Columns that two tables of one name have in common, in the order of the source."""

    source: Table
    target: Table

    @property
    def pairs(self) -> list[tuple[Column, Column]]:
        there = {column.name: column for column in self.target.columns}
        return [(column, there[column.name]) for column in self.source.columns if column.name in there]

    @property
    def missing(self) -> list[str]:
        """Columns of the source that the target lacks."""
        return [name for name in self.source.names if name not in self.target.names]

    def converter(self) -> Callable[[Row], Row]:
        """From a row of the source to one that the target takes. Both rows have the common columns first."""
        changes = [_change(here.kind, there.kind) for here, there in self.pairs]
        return lambda row: tuple(
            value if change is None or value is None else change(value)
            for change, value in zip(changes, row, strict=False)
        )

    def misfit(self) -> Callable[[Row], str | None]:
        """Why a converted row cannot be stored, as "column: reason", or None."""
        checks = [(there, here.kind is Kind.TEXT or there.kind is Kind.JSON) for here, there in self.pairs]

        def look(row: Row) -> str | None:
            for (column, is_text), value in zip(checks, row, strict=False):
                reason = _misfit(column, value) if is_text or value is None else None
                if reason:
                    return f"{column.name}: {reason}"
            return None

        return look

    def fingerprint(self, side: Table) -> Callable[[Row], int]:
        """A number of 256 bits for a row of ``side``, the same for the row that it becomes on the other one."""
        kinds = {here.name: _common(here.kind, there.kind) for here, there in self.pairs}
        forms = [(number, _FORMS[kinds[name]]) for number, name in enumerate(side.names) if name in kinds]
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
    """What both can hold: a timestamp has microseconds, a JSON tree neither spaces nor an order of keys."""
    for kind in (Kind.TIME, Kind.JSON):
        if here is not there and kind in (here, there):
            return kind
    return here


def _misfit(column: Column, value: Any) -> str | None:
    if value is None:
        return "it must not be empty" if column.required else None
    if column.limit is not None and len(value) > column.limit:
        return f"longer than {column.limit} characters"
    if column.kind is Kind.JSON:
        return _json_misfit(value)
    return "it contains a NUL" if isinstance(value, str) and "\0" in value else None


def _json_misfit(text: str) -> str | None:
    """JSONB holds text that PostgreSQL can hold, and numbers that JSON has."""
    try:
        orjson.loads(text)
    except orjson.JSONDecodeError as error:
        return f"it is no JSON that PostgreSQL takes ({str(error).partition(':')[0]})"
    return "it contains a NUL" if "\\u0000" in text and _NUL.search(text) else None


def _plain(value: Any) -> bytes:
    return repr(value).encode("utf-8", "surrogatepass")


def _time(value: Any) -> bytes:
    return b"None" if value is None else str(_micros(value)).encode()


def _tree(value: str | None) -> bytes:
    return b"None" if value is None else orjson.dumps(_numbers(orjson.loads(value)), option=orjson.OPT_SORT_KEYS)


def _numbers(tree: Any) -> Any:
    """Each number in one form: PostgreSQL writes 1e16 with all its digits, and they are not those of the float."""
    if isinstance(tree, dict):
        return {name: _numbers(value) for name, value in tree.items()}
    if isinstance(tree, list):
        return [_numbers(value) for value in tree]
    if isinstance(tree, float) and tree.is_integer() and abs(tree) <= _EXACT:
        return int(tree)
    return float(tree) if isinstance(tree, int) and abs(tree) > _EXACT else tree


_FORMS: dict[Kind, Callable[[Any], bytes]] = {
    Kind.TEXT: _plain,
    Kind.INT: _plain,
    Kind.REAL: _plain,
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
    """Of many rows, in any order: how many, and the sum of their fingerprints."""

    rows: int = 0
    total: int = 0

    def add(self, fingerprint: int) -> None:
        self.rows += 1
        self.total = (self.total + fingerprint) % 2**256

    @property
    def hash(self) -> str:
        return f"{self.total:064x}"


def key_of(table: Table, row: Sequence[Any]) -> tuple[Any, ...]:
    """The values of its primary key."""
    return tuple(row[table.names.index(name)] for name in table.key)
