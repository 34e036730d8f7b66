"""The settings of the operator: those of the package, and a group of its own."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BeforeValidator, Field

from session_manager.settings import Settings
from session_manager.settings.kinds import AnyPort, Group, Host, Seconds, Text, UpTo1000, expects

ScalerName = Annotated[Literal["keda", "native"], BeforeValidator(str.lower), expects("scaler", "keda or native")]


class OperatorGroup(Group):
    scaler: ScalerName = Field("native", alias="SCALER")
    """The scaler of classes that name none."""
    keda_redis_address: Text = Field("", alias="KEDA_REDIS_ADDRESS")
    """host:port at which KEDA reaches Redis; by default ours."""
    host: Host = Field("0.0.0.0", alias="OPERATOR_HOST")  # noqa: S104  for the kubelet
    """Address of /livez, /healthz and /metrics."""
    port: AnyPort = Field(8081, alias="OPERATOR_PORT")
    """Port of /livez, /healthz and /metrics."""
    stray_after: Seconds = Field(30.0, alias="STRAY_AFTER")
    """Seconds until a Deployment is ended whose pod is not wanted."""
    reconcilers: UpTo1000 = Field(8, alias="RECONCILERS")
    """Sessions reconciled at once; more only queue at the API server."""


class OperatorSettings(Settings, frozen=True):
    operator: OperatorGroup
