"""The settings of the operator: those of the package, and a group of its own."""

from __future__ import annotations

from dataclasses import dataclass, field

from session_manager.settings import Settings
from session_manager.settings.declared import setting
from session_manager.settings.kinds import ANY_PORT, HOST, TEXT, choice, seconds, whole_number


@dataclass(frozen=True, slots=True)
class OperatorGroup:
    scaler: str = setting(
        "SCALER", choice("scaler", "keda", "native"), "native", "The scaler of classes that name none."
    )
    keda_redis_address: str = setting(
        "KEDA_REDIS_ADDRESS", TEXT, "", "host:port at which KEDA reaches Redis; by default ours."
    )
    host: str = setting("OPERATOR_HOST", HOST, "0.0.0.0", "Address of /healthz and /metrics.")  # noqa: S104  for the kubelet
    port: int = setting("OPERATOR_PORT", ANY_PORT, 8081, "Port of /healthz and /metrics.")
    stray_after: float = setting(
        "STRAY_AFTER", seconds(), 30.0, "Seconds until a Deployment is ended whose pod is not wanted."
    )
    reconcilers: int = setting(
        "RECONCILERS", whole_number(1000), 8, "Sessions reconciled at once; more only queue at the API server."
    )


@dataclass(frozen=True, slots=True)
class OperatorSettings(Settings):
    operator: OperatorGroup = field(default_factory=OperatorGroup)
