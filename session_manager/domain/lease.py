"""The port behind leadership: a lease that one process holds at a time."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol


class LeaseOutcome(StrEnum):
    HELD = "held"
    TAKEN = "taken"  # another process holds it, or held it until a moment ago
    LOST = "lost"  # this process held it, and another one has taken it since


@dataclass(frozen=True, slots=True)
class LeaseAnswer:
    """The answer of a lease. ``other`` is its holder, or with HELD the process that asks for it; "" if unknown."""

    outcome: LeaseOutcome
    other: str = ""


class Lease(Protocol):
    """``validity``: seconds, from when a claim was sent, for which no other process can take the lease.

    ``pause``: seconds until the next claim is due. ``facts``: fields for log records.
    """

    @property
    def validity(self) -> float: ...

    @property
    def pause(self) -> float: ...

    @property
    def facts(self) -> Mapping[str, object]: ...

    async def claim(self) -> LeaseAnswer:
        """Take the lease if it is free, or renew it.

        Raises Unavailable or StorageError while the lease cannot be reached, and StartupFailure if it never can be.
        """

    async def release(self) -> bool:
        """Let another process take the lease at once. Return False if it was not held or could not be released."""

    async def close(self) -> None:
        """Free local resources. A lease that was not released expires."""
