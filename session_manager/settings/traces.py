"""Traces: the variables of OpenTelemetry that this program reads itself. OpenTelemetry reads all others."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BeforeValidator, Field

from session_manager.settings.kinds import Flag, Group, Url, expects

Exporter = Annotated[Literal["otlp", "none"], BeforeValidator(str.lower), expects("exporter", "otlp or none")]
Protocol = Annotated[Literal["http/protobuf"], BeforeValidator(str.lower), expects("protocol", "http/protobuf")]


class TraceSettings(Group):
    endpoint: Url | None = Field(None, alias="OTEL_EXPORTER_OTLP_ENDPOINT")
    """Address of an OpenTelemetry collector. If set, spans are sent there, which needs the extra otel. OpenTelemetry
    reads its other variables too, such as OTEL_SERVICE_NAME and OTEL_TRACES_SAMPLER."""
    traces_endpoint: Url | None = Field(None, alias="OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")
    """The same for spans only, with the whole path; wins over the other one."""
    protocol: Protocol = Field("http/protobuf", alias="OTEL_EXPORTER_OTLP_PROTOCOL")
    """The protocol to the collector. Only http/protobuf is supported."""
    exporter: Exporter = Field("otlp", alias="OTEL_TRACES_EXPORTER")
    """none turns spans off."""
    disabled: Flag = Field(False, alias="OTEL_SDK_DISABLED")
    """true turns all of OpenTelemetry off."""

    @property
    def enabled(self) -> bool:
        return self.exporter != "none" and not self.disabled and bool(self.endpoint or self.traces_endpoint)
