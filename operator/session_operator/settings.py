"""The operator's settings: those of the package, and where its cluster and KEDA are."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from session_manager.settings import Settings


class OperatorSettings(Settings):
    """Environment variables of the same name in capitals, or a ``.env`` file; the environment wins."""

    scaler: Literal["keda", "native"] = Field("native", description="Who wakes, where the class does not say.")
    keda_redis_address: str = Field("", description="host:port at which KEDA reaches Redis; default is our own.")
    operator_host: str = Field("0.0.0.0", description="Address of /healthz and /metrics.")  # noqa: S104 - for the kubelet
    operator_port: int = Field(8081, ge=0, le=65535, description="Port of /healthz and /metrics.")
    stray_after: float = Field(30.0, gt=0, description="Seconds that a Deployment may stand which nobody wants.")
    reconcilers: int = Field(8, ge=1, description="Sessions reconciled at once; more only queue at the API server.")
