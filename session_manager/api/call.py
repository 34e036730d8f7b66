"""One request once its caller is known, as its handler gets it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, NamedTuple

from fastapi import Depends, Request
from starlette.types import Scope

from session_manager.api.limits import Limit, Limits
from session_manager.api.metrics import Metrics
from session_manager.api.openapi import Documents
from session_manager.domain.access import Access, Anonymous, Caller, PodTurn, UserCaller
from session_manager.domain.errors import Forbidden
from session_manager.wiring.services import Services


class Parts(NamedTuple):
    """The parts that all requests of a front door share."""

    services: Services
    limits: Limits
    metrics: Metrics
    documents: Documents


_NOT_USERS = (PodTurn, Anonymous)


@dataclass(slots=True)
class Call:
    """``params`` are those of the path. ``limit`` is that of the route."""

    parts: Parts
    limit: Limit | None
    caller: Caller
    headers: dict[bytes, bytes]
    params: dict[str, str]
    body: bytes = b""

    @property
    def services(self) -> Services:
        return self.parts.services

    @property
    def access(self) -> Access:
        return self.caller.access

    @property
    def user_caller(self) -> UserCaller:
        """The caller of a route that takes neither tokens of turns nor anonymous callers."""
        if isinstance(self.caller, _NOT_USERS):
            raise Forbidden
        return self.caller

    async def counted_for(self, user: str) -> UserCaller:
        """Return the caller as it acts for the user whom the body names.

        A service is limited per user, so its request could not be counted before the body was read.
        """
        caller = self.user_caller
        if self.limit is not None and caller.names_users:
            caller = caller.acting_for(user)
            await self.parts.limits.count(self.limit, caller.limit_key(""))
        return caller


def call_of(scope: Scope) -> Call:
    call: Call = scope["call"]
    return call


async def _call(request: Request) -> Call:
    return call_of(request.scope)


CurrentCall = Annotated[Call, Depends(_call)]
