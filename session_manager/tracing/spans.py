"""Spans of the steps of a message. Without OpenTelemetry none is recorded, and a caller's context is passed on."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext

from starlette.types import ASGIApp

from session_manager.tracing.context import Trace

Value = str | int | float | bool


class Spans:
    """Records nothing. ``OtelSpans`` has the same methods, and is used if OpenTelemetry is configured."""

    def requests(self, app: ASGIApp) -> ASGIApp:
        """Return ``app`` with a span around each of its requests."""
        return app

    def during(
        self, name: str, parent: Trace | None, *, calls: bool = False, **attributes: Value
    ) -> AbstractContextManager[Trace | None]:
        """Open a span for the duration of a block, and return the context that its own steps have as their parent.

        ``calls``: the step is a request to another program.
        """
        return nullcontext(parent)

    def between(self, name: str, parent: Trace | None, began: float, ended: float, **attributes: Value) -> None:
        """Record a span of the past. Its times are in Unix seconds."""

    def close(self) -> None:
        """Send what was recorded. Takes a few seconds at most."""
