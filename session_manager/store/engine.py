"""The two things that an engine can do: run a transaction that writes, run one that reads."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable
from typing import Concatenate, ParamSpec, TypeVar

from session_manager.domain.times import Micros
from session_manager.store.transactions.base import Transaction

T = TypeVar("T")
P = ParamSpec("P")


class Engine(ABC):
    @abstractmethod
    def _write(
        self, transaction: Callable[Concatenate[Micros, P], Transaction[T]], *args: P.args, **kwargs: P.kwargs
    ) -> Awaitable[T]:
        """Run it with the database's time as its first argument, and commit."""

    @abstractmethod
    async def _read(self, transaction: Callable[P, Transaction[T]], *args: P.args, **kwargs: P.kwargs) -> T: ...
