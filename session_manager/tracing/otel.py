"""Spans that OpenTelemetry records and sends over OTLP. Its SDK reads the variables ``OTEL_*`` by itself.

Attributes name sessions and messages, never their content or their users. An error is recorded by its type alone,
because its text may quote what a pod answered.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Self

from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import SERVICE_NAME, OTELResourceDetector, Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.trace import NonRecordingSpan, Span, SpanContext, SpanKind, StatusCode, TraceFlags, TraceState
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from session_manager import __version__
from session_manager.tracing.context import Trace
from session_manager.tracing.spans import Spans, Value

NAME = "session-manager"
CLOSE_WITHIN = 2.0  # seconds in which the last spans are sent
SECOND = 1_000_000_000  # nanoseconds
HEADERS = (b"traceparent", b"tracestate")


class OtelSpans(Spans):
    """``interrupt`` ends an export that is under way."""

    def __init__(self, provider: TracerProvider, interrupt: Callable[[], None] = lambda: None) -> None:
        self._provider = provider
        self._interrupt = interrupt
        self._tracer = provider.get_tracer(NAME, __version__)

    @classmethod
    def of_environment(cls) -> Self:
        # OTEL_SERVICE_NAME and OTEL_RESOURCE_ATTRIBUTES win over our name.
        resource = Resource({SERVICE_NAME: NAME}).merge(OTELResourceDetector().detect())
        provider = TracerProvider(resource=resource, shutdown_on_exit=False)
        exporter = OTLPSpanExporter()
        provider.add_span_processor(BatchSpanProcessor(exporter))
        return cls(provider, exporter.shutdown)

    def requests(self, app: ASGIApp) -> ASGIApp:
        return _Traced(app, self)

    @contextmanager
    def during(
        self, name: str, parent: Trace | None, *, calls: bool = False, **attributes: Value
    ) -> Iterator[Trace | None]:
        kind = SpanKind.CLIENT if calls else SpanKind.INTERNAL
        with self.open(name, parent, kind, attributes) as span:
            yield _context_of(span)

    @contextmanager
    def open(self, name: str, parent: Trace | None, kind: SpanKind, attributes: Mapping[str, Value]) -> Iterator[Span]:
        span = self._tracer.start_span(name, _parent(parent), kind, attributes, record_exception=False)
        try:
            yield span
        except BaseException as error:
            span.set_status(StatusCode.ERROR, type(error).__name__)
            raise
        finally:
            span.end()

    def between(self, name: str, parent: Trace | None, began: float, ended: float, **attributes: Value) -> None:
        start = int(began * SECOND)
        span = self._tracer.start_span(name, _parent(parent), attributes=attributes, start_time=start)
        span.end(max(start, int(ended * SECOND)))

    def close(self) -> None:
        # The provider's own time limit does not end the retries of the exporter.
        late = threading.Timer(CLOSE_WITHIN, self._interrupt)
        late.start()
        self._provider.shutdown()
        late.cancel()


class _Traced:
    """Opens a span for each request, and puts its context in place of the caller's."""

    def __init__(self, app: ASGIApp, spans: OtelSpans) -> None:
        self._app = app
        self._spans = spans

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers, method = scope["headers"], scope["method"]
        sent = [(name, value) for name, value in headers if name in HEADERS]
        caller = Trace.of_headers(dict(sent)) if len(sent) == len(dict(sent)) else None  # a repeated one is malformed
        # The path is not an attribute, since it may name a user.
        with self._spans.open(method, caller, SpanKind.SERVER, {"http.request.method": method}) as span:
            context = _context_of(span)
            rest = [(name, value) for name, value in headers if name not in HEADERS]
            ours = [(b"traceparent", context.parent.encode()), (b"tracestate", context.state.encode())]
            scope["headers"] = [*rest, *ours]
            await self._app(scope, receive, _noting(span, send, scope))


def _noting(span: Span, send: Send, scope: Scope) -> Send:
    async def noting(message: Message) -> None:
        if message["type"] == "http.response.start":
            status = message["status"]
            span.set_attribute("http.response.status_code", status)
            route = scope.get("route_path")
            if route:
                span.set_attribute("http.route", route)
                span.update_name(f"{scope['method']} {route}")
            if status >= 500:
                span.set_status(StatusCode.ERROR)
        await send(message)

    return noting


def _parent(of: Trace | None) -> Context:
    if of is None:
        return Context()  # not the context of this task: the span begins a trace
    state = TraceState.from_header([of.state]) if of.state else None
    context = SpanContext(
        int(of.trace_id, 16), int(of.span_id, 16), is_remote=True, trace_flags=TraceFlags(of.flags), trace_state=state
    )
    return trace.set_span_in_context(NonRecordingSpan(context), Context())


def _context_of(span: Span) -> Trace:
    context = span.get_span_context()
    flags = int(context.trace_flags) & 1
    return Trace(f"{context.trace_id:032x}", f"{context.span_id:016x}", flags, context.trace_state.to_header())
