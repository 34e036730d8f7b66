"""Spans of OpenTelemetry: one trace from the caller's request to the pod, without anybody's words in it."""

from __future__ import annotations

import asyncio
import logging
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from session_manager.settings import Settings
from session_manager.tracing import open as opening
from session_manager.tracing.otel import OtelSpans
from session_manager.tracing.spans import Spans
from session_manager.wiring import services
from tests.tracing.test_context import PARENT, SPAN, TRACE
from tests.waiting import until

SECRET = "a word of the message"


@pytest.fixture
def recorded(monkeypatch: pytest.MonkeyPatch) -> InMemorySpanExporter:
    """What front doors of this test record."""
    exporter = InMemorySpanExporter()
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    monkeypatch.setattr(services, "open_spans", lambda settings: OtelSpans(provider))
    return exporter


async def spans_of(exporter: InMemorySpanExporter, *names: str) -> dict[str, ReadableSpan]:
    """Return the spans by name, once those are there."""

    def found() -> dict[str, ReadableSpan]:
        return {span.name: span for span in exporter.get_finished_spans()}

    await until(lambda: set(names) <= found().keys())
    return found()


def parent_of(span: ReadableSpan) -> int:
    return span.parent.span_id if span.parent else 0


@pytest.mark.parametrize("asleep", [True, False])
async def test_a_message_is_one_trace(recorded, start, asleep):
    front = await start()
    session = await front.create()
    if not asleep:
        await front.chat(session, "wake up")
        recorded.clear()
    _, body = await front.chat(session, "trace", traceparent=PARENT)
    names = ["POST /session/{session_id}/chat", "accept", "queue", "turn", "pod", *(["wake"] if asleep else [])]
    spans = await spans_of(recorded, *names)
    request = spans[names[0]]
    assert {span.context.trace_id for name, span in spans.items() if name in names} == {int(TRACE, 16)}
    assert parent_of(request) == int(SPAN, 16)
    assert {parent_of(spans[name]) for name in names[1:] if name != "pod"} == {request.context.span_id}
    assert parent_of(spans["pod"]) == spans["turn"].context.span_id
    sent = f"00-{TRACE}-{spans['pod'].context.span_id:016x}-01"
    assert body["pod_response"]["traceparent"] == sent


async def test_a_request_without_a_context_begins_a_trace(recorded, start):
    front = await start()
    session = await front.create()
    spans = await spans_of(recorded, "POST /session/create")
    assert spans["POST /session/create"].parent is None
    _, body = await front.chat(session, "trace")
    spans = await spans_of(recorded, "pod")
    assert f"{spans['pod'].context.trace_id:032x}" in body["pod_response"]["traceparent"]


async def test_a_caller_that_does_not_record_is_followed(recorded, start):
    front = await start()
    session = await front.create()
    recorded.clear()
    _, body = await front.chat(session, "trace", traceparent=f"00-{TRACE}-{SPAN}-00")
    sent = body["pod_response"]["traceparent"]
    assert sent.startswith(f"00-{TRACE}-")
    assert sent.endswith("-00")
    assert not recorded.get_finished_spans()


async def test_spans_have_no_words_users_or_keys(recorded, start):
    front = await start()
    session = await front.create(user_id="ada-lovelace")
    await front.chat(session, SECRET)
    await front.chat(session, "die")
    await front.call("GET", "/apps/default/users/ada-lovelace/sessions")
    await spans_of(recorded, "pod", "turn")
    told = "".join(span.to_json() for span in recorded.get_finished_spans())
    assert session in told
    assert "ada-lovelace" not in told
    assert SECRET not in told


async def test_a_dead_pod_is_an_error_and_each_attempt_a_span(recorded, start):
    front = await start()
    session = await front.create()
    await front.chat(session, "die")
    attempts = [span for span in recorded.get_finished_spans() if span.name == "turn"]
    assert [span.attributes["attempt"] for span in attempts if span.attributes] == [1, 2, 3]
    pods = [span for span in recorded.get_finished_spans() if span.name == "pod"]
    assert [(span.status.is_ok, span.status.description) for span in pods] == [(False, "PodDied")] * 3


class Collector:
    """A receiver of OTLP over HTTP."""

    def __init__(self) -> None:
        self.requests: list[ExportTraceServiceRequest] = []

    def names(self) -> set[str]:
        return {
            span.name
            for request in self.requests
            for resource in request.resource_spans
            for scope in resource.scope_spans
            for span in scope.spans
        }


@pytest.fixture
def collector() -> Iterator[tuple[Collector, str]]:
    found = Collector()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            found.requests.append(ExportTraceServiceRequest.FromString(body))
            self.send_response(200)
            self.end_headers()

        def log_message(self, *args: Any) -> None: ...

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    serving = threading.Thread(target=server.serve_forever)
    serving.start()
    yield found, f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    serving.join()
    server.server_close()


async def test_spans_reach_a_collector_over_otlp(collector, start, monkeypatch):
    found, address = collector
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", address)
    monkeypatch.setenv("OTEL_SERVICE_NAME", "house")
    monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "50")
    front = await start()
    session = await front.create()
    await front.chat(session, "hello")
    await until(lambda: {"accept", "turn", "pod", "wake"} <= found.names())
    [service] = {
        attribute.value.string_value
        for request in found.requests
        for resource in request.resource_spans
        for attribute in resource.resource.attributes
        if attribute.key == "service.name"
    }
    assert service == "house"


async def test_a_collector_that_is_away_delays_nothing(start, monkeypatch):
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:9")
    front = await start()
    session = await front.create()
    async with asyncio.timeout(20):
        assert (await front.chat(session, "hello"))[0] == 200


@pytest.mark.parametrize(
    "variables",
    [
        {},
        {"otel_exporter_otlp_endpoint": "http://127.0.0.1:9", "otel_sdk_disabled": "true"},
        {"otel_exporter_otlp_endpoint": "http://127.0.0.1:9", "otel_traces_exporter": "none"},
    ],
)
def test_nothing_is_recorded_unless_asked_for(variables: dict[str, str]):
    assert type(opening.open_spans(Settings.from_environment(**variables).traces)) is Spans


def test_a_missing_package_is_named_once(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture):
    monkeypatch.setitem(sys.modules, "session_manager.tracing.otel", None)
    settings = Settings.from_environment(otel_exporter_otlp_endpoint="http://127.0.0.1:9")
    with caplog.at_level(logging.WARNING):
        assert type(opening.open_spans(settings.traces)) is Spans
    assert "OTEL_* needs the extra otel" in caplog.text
