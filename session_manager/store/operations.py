"""Operations of a store, bound to the transactions that do the work.

An operation is declared twice: its signature in a Protocol, and its work as a transaction. A descriptor makes the
transaction a method of the store class::

    get_session = read(sessions.get)

The method takes the parameters of the transaction, so that a type checker compares it with the Protocol.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Coroutine
from functools import partial
from typing import Any, Concatenate, Generic, ParamSpec, TypeAlias, TypeVar

from session_manager.domain.adk.model import AdoptAs, ClassAndTtl
from session_manager.domain.errors import NotFound
from session_manager.domain.session_class import DEFAULT, SessionClass
from session_manager.domain.times import Micros, micros
from session_manager.store.transactions.base import Transaction
from session_manager.store.transactions.sessions import NO_SESSION

T = TypeVar("T")
P = ParamSpec("P")
Method: TypeAlias = Callable[P, Coroutine[Any, Any, T]]


def default_class(app: str) -> ClassAndTtl:
    """Return the default class with its default TTL, whatever the app."""
    return ClassAndTtl(DEFAULT, micros(SessionClass(DEFAULT).ttl))


class Runner(ABC):
    """Runs transactions on one engine. ``adopt_as`` is for transactions that adopt sessions of real ADK services."""

    def __init__(self, adopt_as: AdoptAs) -> None:
        self.adopt_as = adopt_as

    @abstractmethod
    async def _write(
        self, transaction: Callable[Concatenate[Micros, P], Transaction[T]], *args: P.args, **kwargs: P.kwargs
    ) -> T:
        """Run a transaction with the database's time as its first argument, and commit it."""

    @abstractmethod
    async def _read(self, transaction: Callable[P, Transaction[T]], *args: P.args, **kwargs: P.kwargs) -> T:
        """Run a transaction that only reads."""


class read(Generic[P, T]):  # noqa: N801  used like a decorator
    """A method that runs a transaction that only reads."""

    def __init__(self, transaction: Callable[P, Transaction[T]]) -> None:
        self._transaction = transaction

    def __get__(self, runner: Runner, owner: type) -> Method[P, T]:
        return partial(runner._read, self._transaction)


class write(Generic[P, T]):  # noqa: N801  used like a decorator
    """A method that runs a transaction and commits it. The engine supplies the time."""

    def __init__(self, transaction: Callable[Concatenate[Micros, P], Transaction[T]]) -> None:
        self._transaction = transaction

    def __get__(self, runner: Runner, owner: type) -> Method[P, T]:
        return partial(runner._write, self._transaction)


class adopting_write(Generic[P, T]):  # noqa: N801  used like a decorator
    """A ``write`` on a session of ADK, which the transaction first reconciles with changes of real ADK services.

    A transaction that returns None is committed all the same, and NotFound is raised.
    """

    def __init__(self, transaction: Callable[Concatenate[Micros, AdoptAs, P], Transaction[T | None]]) -> None:
        self._transaction = transaction

    def __get__(self, runner: Runner, owner: type) -> Method[P, T]:
        async def run(*args: P.args, **kwargs: P.kwargs) -> T:
            found = await runner._write(self._transaction, runner.adopt_as, *args, **kwargs)
            if found is None:
                raise NotFound(NO_SESSION)
            return found

        return run
