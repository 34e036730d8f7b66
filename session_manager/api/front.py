"""The outermost layer, through which every request passes: one table of routes, one gate, one mapping of errors.

The gate takes each request in the same order: admission, identity, right or audience, limit, bound of the body, body,
handler. It is plain ASGI, because the hot path passes through it.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from traceback import clear_frames

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from session_manager.api import errors
from session_manager.api.call import SMALL_BODY, Call, ClientGone, Parts, check_length, read_body
from session_manager.api.failed_keys import FailedKeys
from session_manager.api.limits import Limit, Limits
from session_manager.api.media import check_media
from session_manager.api.metrics import Metrics
from session_manager.api.origins import PREFLIGHT_ANSWER, Origins, completed
from session_manager.api.rules import ADMINS, OPEN, Rule
from session_manager.api.sse import SLICE, Shared
from session_manager.api.table import Found, Table, routed, table
from session_manager.domain.access import Anonymous, Caller
from session_manager.domain.errors import Forbidden, NotFound, Overloaded, QuotaExceeded, Unauthenticated
from session_manager.domain.session_class import SessionClasses, class_name_of_app
from session_manager.domain.values import LONGEST_ID
from session_manager.leadership.leadership import admission
from session_manager.people.identity import Identity, header_map
from session_manager.tracing.context import Trace, current
from session_manager.wiring.services import Services

log = logging.getLogger(__name__)

CLOSE = (b"connection", b"close")
POLICY_VIOLATION = 1008  # the code with which a WebSocket is closed
PREFLIGHT = Rule("OPTIONS", "", OPEN, None, PREFLIGHT_ANSWER)


@dataclass(slots=True, eq=False)
class Front:
    """``admit`` raises where another instance has the data or the pods, by the method of the request."""

    table: Table
    parts: Parts
    identity: Identity
    origins: Origins
    admit: Callable[[str], Awaitable[None]]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await _live(receive, send)
            return
        began = time.perf_counter()
        status = 0
        complete = False
        cors = self.origins.headers(scope) if self.origins.allowed else ()

        async def noting(message: Message) -> None:
            nonlocal status, complete
            if message["type"] == "http.response.start":
                headers = completed(message.get("headers", ()), cors)
                _hold_long(scope, headers)
                status = message["status"]
                if self.parts.services.stopping:
                    headers.append(CLOSE)
                message = {**message, "headers": headers}
            else:
                complete = not message.get("more_body", False)
            await (send(message) if len(message.get("body", b"")) <= SLICE else _send_long(send, message, scope))

        method = scope.get("method", "WEBSOCKET")
        rule, serve, params = self._find(method, scope)
        scope["route_path"] = rule.path
        try:
            await self._open(method, rule, params, scope, receive)
            await serve(scope, receive, noting)
        except ClientGone:
            status = 499
        except (Exception, asyncio.CancelledError) as error:
            answer = self._answer(error, rule, scope)
            _forget(error)
            if scope["type"] == "websocket":
                status = answer.status
                await send({"type": "websocket.close", "code": POLICY_VIOLATION})
            elif status == 0:
                await _send(noting, answer)
            elif not complete:
                # A stream that cannot go on ends like any other; its client resumes elsewhere or later.
                await noting({"type": "http.response.body", "body": b""})
        finally:
            self._end(scope, method, status, time.perf_counter() - began)

    def _answer(self, error: BaseException, rule: Rule, scope: Scope) -> errors.Answer:
        if isinstance(error, QuotaExceeded):
            self.parts.metrics.exceeded.labels(error.quota).inc()
        if not rule.adk:
            return errors.problem(error)
        call: Call | None = scope.get("call")
        return errors.adk(error, rule.unknown, len(call.body) if call is not None else 0)

    def _find(self, method: str, scope: Scope) -> Found:
        if method == "OPTIONS" and self.origins.allowed and self.origins.asks(scope):
            return PREFLIGHT, PREFLIGHT.handler, {}
        return self.table.find(method, routed(scope))

    async def _open(self, method: str, rule: Rule, params: dict[str, str], scope: Scope, receive: Receive) -> None:
        """Let the request pass to its handler, which finds the call in the scope. Raises what rejects it."""
        if current.get() is not None:
            current.set(None)  # the task of a request that was sent ahead begins in the context of the one before
        if rule.admitted:
            await self.admit(method)
        headers = header_map(scope["headers"])
        if b"traceparent" in headers:
            current.set(Trace.of_headers(headers))
        client = scope.get("client")
        peer = client[0] if client else ""
        caller = await self._caller(rule, headers, peer)
        _check(rule, caller, params, self.parts.services.classes)
        acting, place = _place(caller, params)
        call = self._enter(Call(self.parts, rule.limit, caller, headers, params, acting.holder(place)), scope)
        if rule.user_in_body and caller.names_users:
            if _may_be_large(headers):  # the user is counted later, but until then reading takes long
                await self.parts.limits.count(Limit.CHANGE, acting.limit_key(place))
        elif rule.limit is not None:
            await self.parts.limits.count(rule.limit, acting.limit_key(place))
        if rule.body:
            check_length(headers, rule.body)
            check_media(headers)
            call.body = await read_body(call, receive, rule.body)
        elif method in (rule.method, "HEAD"):
            check_length(headers, SMALL_BODY)

    async def _caller(self, rule: Rule, headers: dict[bytes, bytes], peer: str) -> Caller:
        """Return the caller. A wrong key is counted; on an open route its caller is anonymous."""
        try:
            return await self.identity.caller(headers, peer, pods=rule.pods)
        except Unauthenticated as error:
            address = self.identity.client_address(headers, peer)
            if error.tried:
                await self.parts.failed_keys.count(address, refuse=not rule.anonymous)
            if not rule.anonymous:
                raise
            return Anonymous(address)

    def _enter(self, call: Call, scope: Scope) -> Call:
        """Count the request as one of its caller's. ``Call.end`` ends it. Raises RateLimited over the limit."""
        self.parts.services.room.enter(call.holder)
        scope["call"] = call
        scope["path_params"] = call.params
        connection = scope["state"].get("connection") if "state" in scope else None
        if connection is not None:
            connection.holder = call.holder
            call.connection = connection
        return call

    def _end(self, scope: Scope, method: str, status: int, duration: float) -> None:
        call: Call | None = scope.pop("call", None)
        if call is not None:
            call.end()
        self.parts.metrics.request(method, status, duration)
        if status >= 500 or log.isEnabledFor(logging.DEBUG):
            level = logging.WARNING if status >= 500 else logging.DEBUG
            extra = {"event": "http.request", "status": status, "duration": round(duration, 4)}
            log.log(level, "%s %s", method, scope["path"], extra=extra)


def build_app(services: Services) -> ASGIApp:
    """Return every route on ``services``, which the caller starts and closes."""
    settings = services.settings
    metrics = Metrics(
        services.tools.times, services.host.wake_times, services.backups.stats, services.writer, services.health.reasons
    )
    failed_keys = FailedKeys(settings.limits.failed_keys, services.link, metrics.failed_keys)
    services.at_end.append(failed_keys.report)
    parts = Parts(services, Limits(settings, services.link), failed_keys, metrics, table().documents, Shared())
    origins = Origins(settings.server.cors_origins)
    identity = Identity(
        settings.server.api_keys,
        settings.server.trusted_proxies,
        services.tokens,
        origins=origins.allowed,
        classes=settings.server.key_classes,
    )
    writer = services.writer.leadership if services.writer else None
    return services.spans.requests(Front(table(), parts, identity, origins, admission(writer, services.machine)))


def _check(rule: Rule, caller: Caller, params: dict[str, str], classes: SessionClasses) -> None:
    """Raise Forbidden for a caller outside the audience, NotFound for a user or an app that is not the caller's.

    The right on a session is not decided here: the statement that reads or changes the session decides it.
    """
    if rule.who is ADMINS and not caller.admin:
        raise Forbidden("only a service's key that acts for no user may do this")
    user = params.get("user_id")
    if user is not None and not caller.may_act_for(user):
        raise NotFound
    app = params.get("app_name")
    if app is not None and caller.classes is not None and class_name_of_app(classes, app) not in caller.classes:
        raise NotFound


def _may_be_large(headers: dict[bytes, bytes]) -> bool:
    length = headers.get(b"content-length")
    return int(length) > SMALL_BODY if length is not None and length.isdigit() else b"transfer-encoding" in headers


def _place(caller: Caller, params: dict[str, str]) -> tuple[Caller, str]:
    """Return for whom limits count: a service is limited per user where the path names one, else per session."""
    user = params.get("user_id")
    if user is not None:
        return caller.acting_for(user[:LONGEST_ID]), ""
    # The path was not checked yet: a session is one in any spelling, and a bad id makes no long key.
    return caller, params.get("session_id", "")[:36].lower()


def _hold_long(scope: Scope, headers: list[tuple[bytes, bytes]]) -> None:
    """Hold a long answer before its head is sent: afterwards it can only be cut off. Raises RateLimited or Overloaded.

    One without a length is a stream, whose pieces are held one by one.
    """
    size = next((int(value) for name, value in headers if name == b"content-length"), 0)
    call: Call | None = scope.get("call")
    if size > SLICE and call is not None:
        try:
            call.hold_answer(size)
        except Overloaded:
            if call.connection is not None:
                call.connection.make_room()  # for the next try
            raise
        call.answer = size


async def _send_long(send: Send, message: Message, scope: Scope) -> None:
    """Send a body in slices, each once the client has read of those before it."""
    call: Call | None = scope.get("call")
    held = call.held if call is not None else 0
    body, more = memoryview(message["body"]), message.get("more_body", False)
    if call is not None and not call.answer:
        call.hold_answer(len(body))
    try:
        for start in range(0, len(body), SLICE):
            piece = bytes(body[start : start + SLICE])
            await send({**message, "body": piece, "more_body": more or start + SLICE < len(body)})
    finally:
        if call is not None:
            call.free_to(held)


def _forget(error: BaseException | None) -> None:
    """Free what the frames of an error hold, such as the body: they refer to each other, and would stay for long."""
    while error is not None:
        clear_frames(error.__traceback__)
        error = error.__cause__ or error.__context__


async def _send(send: Send, answer: errors.Answer) -> None:
    headers = [(name.encode(), value.encode()) for name, value in answer.headers.items()]
    headers.append((b"content-length", b"%d" % len(answer.body)))
    await send({"type": "http.response.start", "status": answer.status, "headers": headers})
    await send({"type": "http.response.body", "body": answer.body})


async def _live(receive: Receive, send: Send) -> None:
    """Answer a server that asks for a lifespan. Who built the services starts and closes them."""
    while (await receive())["type"] == "lifespan.startup":
        await send({"type": "lifespan.startup.complete"})
    await send({"type": "lifespan.shutdown.complete"})
