"""The lease of the machine that runs the pods: the hash ``machine`` in Redis."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from contextlib import suppress
from typing import Protocol

from session_manager.activity.link import Link, load_script
from session_manager.activity.resp import RedisError
from session_manager.domain.errors import ActivityUnavailable
from session_manager.domain.lease import LeaseAnswer, LeaseOutcome

log = logging.getLogger(__name__)

CLAIM = load_script("claim_machine")
RELEASE = load_script("release_machine")
CLAIMS = 5  # per period


class MachineId(Protocol):
    """The id of a machine, shared by its front doors."""

    def open(self) -> str:
        """Return the id. Raises StartupFailure if it cannot be stored."""
        ...

    def close(self) -> bool:
        """Return True if no other front door of this machine has the id open."""
        ...


class MachineLease:
    """``period`` in seconds: how long a claim is valid in Redis.

    A candidate that never saw another machine takes a free lease at once. One that did takes it at once only if it was
    released. Otherwise it waits for a whole period of claims that found no holder: a Redis that came back empty, or
    late, says nothing about a machine that still runs, which claims the lease again in that time.
    """

    def __init__(self, link: Link, machine_id: MachineId, period: float) -> None:
        self._link = link
        self._machine_id = machine_id
        self.validity = period
        self.pause = period / CLAIMS
        self._id = ""
        self._held = False
        self._other = ""
        self._vacant = 0  # claims in a row that found no holder

    @property
    def facts(self) -> Mapping[str, object]:
        return {"machine": self._id}

    def open(self) -> None:
        """Learn the id of this machine, before the first claim. Raises StartupFailure if it cannot be stored."""
        self._id = self._machine_id.open()

    async def claim(self) -> LeaseAnswer:
        may_follow = not self._other or self._vacant >= CLAIMS
        args = (b"", b"", self._id, round(self.validity * 1000), int(self._held), int(may_follow))
        try:
            outcome, other, *expired = await self._link.script(CLAIM, args)
        except ActivityUnavailable:
            self._vacant = 0  # another machine may have claimed it meanwhile
            raise
        except RedisError as error:  # full, or a replica by now; that may be fixed
            self._vacant = 0
            extra = {"event": "machine.refused", "code": error.code}
            log.warning("Redis rejected a claim (%s)", error.code, extra=extra)
            raise ActivityUnavailable from None
        answer = LeaseAnswer(LeaseOutcome(outcome.decode()), other.decode())
        self._held = answer.outcome is LeaseOutcome.HELD
        self._vacant = self._vacant + 1 if expired else 0
        self._other = self._other or answer.other
        return answer

    async def release(self) -> bool:
        """Release the lease, unless another front door of this machine runs."""
        if not self._machine_id.close():
            return False
        with suppress(ActivityUnavailable):
            [answer] = await self._link.script(RELEASE, (b"", b"", self._id))
            return bool(answer == b"released")
        return False

    async def close(self) -> None:
        self._machine_id.close()
