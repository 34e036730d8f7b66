"""The outermost layer, through which every request passes: one gate, one mapping of errors, one log line.

The gate takes each request in the same order: admission, identity, right or audience, limit, bound of the body, body,
handler. It is plain ASGI, because the hot path passes through it.
"""

from __future__ import annotations

import asyncio
import logging
import time

from starlette.types import Message, Receive, Scope, Send

from session_manager.api import errors
from session_manager.api.bodies import ClientGone, read_body
from session_manager.api.call import Call, Parts
from session_manager.api.limits import Limits
from session_manager.api.metrics import Metrics
from session_manager.api.rules import ADMINS, Rule
from session_manager.api.table import Found, Table, table
from session_manager.domain.access import Caller
from session_manager.domain.errors import Forbidden, NotFound
from session_manager.people.identity import Identity, header_map
from session_manager.wiring.services import Services

log = logging.getLogger(__name__)

CLOSE = (b"connection", b"close")
POLICY_VIOLATION = 1008  # the code with which a WebSocket is closed


class Front:
    def __init__(self, table: Table, parts: Parts, identity: Identity) -> None:
        self._table = table
        self._parts = parts
        self._services = parts.services
        self._identity = identity

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await _live(receive, send)
            return
        began = time.perf_counter()
        status = 0
        complete = False

        async def noting(message: Message) -> None:
            nonlocal status, complete
            if message["type"] == "http.response.start":
                status = message["status"]
                if self._services.stopping:
                    message = {**message, "headers": [*message.get("headers", ()), CLOSE]}
            else:
                complete = not message.get("more_body", False)
            await send(message)

        method = scope.get("method", "WEBSOCKET")
        found = self._table.find(method, scope["path"])
        try:
            await self._serve(found, method, scope, receive, noting)
        except ClientGone:
            status = 499
        except (Exception, asyncio.CancelledError) as error:
            answer = _answer(error, found[0], scope)
            if scope["type"] == "websocket":
                status = answer.status
                await send({"type": "websocket.close", "code": POLICY_VIOLATION})
            elif status == 0:
                await _send(noting, answer)
            elif not complete:
                # A stream that cannot go on ends like any other; its client resumes elsewhere or later.
                await noting({"type": "http.response.body", "body": b""})
        finally:
            self._note(method, scope["path"], status, time.perf_counter() - began)

    async def _serve(self, found: Found, method: str, scope: Scope, receive: Receive, send: Send) -> None:
        rule, serve, params = found
        if rule.admitted:
            await self._services.admit(method)
        headers = header_map(scope["headers"])
        client = scope.get("client")
        peer = client[0] if client else ""
        caller = await self._identity.caller(headers, peer, pods=rule.pods, anonymous=rule.anonymous)
        _check(rule, caller, params)
        if rule.limit is not None and not (rule.user_in_body and caller.names_users):
            await self._parts.limits.count(rule.limit, _limit_key(caller, params))
        call = scope["call"] = Call(self._parts, rule.limit, caller, headers, params)
        scope["path_params"] = params
        if rule.body:
            call.body = await read_body(receive, headers, rule.body)
        await serve(scope, receive, send)

    def _note(self, method: str, path: str, status: int, duration: float) -> None:
        self._parts.metrics.request(method, status, duration)
        if log.isEnabledFor(logging.DEBUG) or status >= 500:
            level = logging.WARNING if status >= 500 else logging.DEBUG
            extra = {"event": "http.request", "status": status, "duration": round(duration, 4)}
            log.log(level, "%s %s", method, path, extra=extra)


def _check(rule: Rule, caller: Caller, params: dict[str, str]) -> None:
    """Raise Forbidden for a caller outside the audience, NotFound where it may not act for the user of the path.

    The right on a session is not decided here: the statement that reads or changes the session decides it.
    """
    if rule.who is ADMINS and not caller.admin:
        raise Forbidden("only a service's key that acts for no user may do this")
    user = params.get("user_id")
    if user is not None and not caller.may_act_for(user):
        raise NotFound


def _limit_key(caller: Caller, params: dict[str, str]) -> str:
    """Return the key of the limit: a service is limited per user where the path names one, else per session."""
    user = params.get("user_id")
    if user is not None:
        return caller.acting_for(user).limit_key("")
    # The path was not checked yet: a session is one in any spelling, and a bad id makes no long key.
    return caller.limit_key(params.get("session_id", "")[:36].lower())


def _answer(error: BaseException, rule: Rule, scope: Scope) -> errors.Answer:
    if not rule.adk:
        return errors.problem(error)
    call: Call | None = scope.get("call")
    return errors.adk(error, rule.unknown, len(call.body) if call is not None else 0)


async def _send(send: Send, answer: errors.Answer) -> None:
    headers = [(name.encode(), value.encode()) for name, value in answer.headers.items()]
    headers.append((b"content-length", b"%d" % len(answer.body)))
    await send({"type": "http.response.start", "status": answer.status, "headers": headers})
    await send({"type": "http.response.body", "body": answer.body})


def build_app(services: Services) -> Front:
    """Return every route on ``services``, which the caller starts and closes."""
    settings = services.settings
    routes = table()
    metrics = Metrics(services.tools.times, services.host.wake_times, services.backups.stats, services.writer)
    identity = Identity(settings.server.api_keys, settings.server.trusted_proxies, services.tokens)
    return Front(routes, Parts(services, Limits(settings, services.link), metrics, routes.documents), identity)


async def _live(receive: Receive, send: Send) -> None:
    """Answer a server that asks for a lifespan. Who built the services starts and closes them."""
    while (await receive())["type"] == "lifespan.startup":
        await send({"type": "lifespan.startup.complete"})
    await send({"type": "lifespan.shutdown.complete"})
