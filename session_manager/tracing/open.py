"""Opens what records the spans of a process, if the settings say so. OpenTelemetry is imported only then."""

from __future__ import annotations

import logging

from session_manager.domain.extras import needs_extra
from session_manager.settings.traces import TraceSettings
from session_manager.tracing.spans import Spans

log = logging.getLogger(__name__)


def open_spans(settings: TraceSettings) -> Spans:
    """Return what records the spans of this process, as the variables ``OTEL_*`` say."""
    if not settings.enabled:
        return Spans()
    try:
        from session_manager.tracing.otel import OtelSpans  # noqa: PLC0415  an extra
    except ModuleNotFoundError:
        log.warning(
            f"spans are not recorded: {needs_extra('OTEL_*', 'otel')}",
            extra={"event": "traces.missing"},
        )
        return Spans()
    return OtelSpans.of_environment()
