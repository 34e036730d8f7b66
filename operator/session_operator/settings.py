"""The settings of the operator: those of the package, and a few of its own."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from session_manager.settings import Settings


class OperatorSettings(Settings):
    """Environment variables of the same name in capitals, or a ``.env`` file. The environment wins."""

    scaler: Literal["keda", "native"] = Field("native", description="The scaler of classes that name none.")
    keda_redis_address: str = Field("", description="host:port at which KEDA reaches Redis; by default ours.")
    operator_host: str = Field("0.0.0.0", description="Address of /healthz and /metrics.")  # noqa: S104 - for the kubelet
    operator_port: int = Field(8081, ge=0, le=65535, description="Port of /healthz and /metrics.")
    stray_after: float = Field(30.0, gt=0, description="Seconds until a Deployment is ended whose pod is not wanted.")
    reconcilers: int = Field(8, ge=1, description="Sessions reconciled at once; more only queue at the API server.")
