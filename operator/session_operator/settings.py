"""The settings of the operator: those of the package, and two groups of its own."""

from __future__ import annotations

import re
from typing import Annotated, Literal

from pydantic import BeforeValidator, Field, PlainValidator

from session_manager.settings import Settings
from session_manager.settings.kinds import AnyPort, Group, Host, Seconds, Text, UpTo1000, expects
from session_operator.class_rules import ClassRules


def _name_list(text: str) -> tuple[str, ...]:
    entries = tuple(part.strip() for part in text.split(",") if part.strip())
    if not all(re.fullmatch(r"[A-Za-z0-9._/-]*\*?", entry) for entry in entries):
        raise ValueError
    return entries


ScalerName = Annotated[Literal["keda", "native"], BeforeValidator(str.lower), expects("scaler", "keda or native")]
NameList = Annotated[
    tuple[str, ...],
    PlainValidator(_name_list),
    expects("list", "comma-separated names, each of which may end with *"),
]


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


class ClassGroup(Group):
    """Names that SessionClasses may use, comma-separated. An entry that ends with * stands for every name that begins
    with the rest. The lists are empty by default, because each name can open a way out of a pod's isolation."""

    secrets: NameList = Field((), alias="ALLOWED_SECRETS")
    """Secrets, as variables or for pulling images."""
    reserved: NameList = Field((), alias="RESERVED_SECRETS")
    """Secrets of the service, which no class may use even if ALLOWED_SECRETS has them."""
    labels: NameList = Field((), alias="ALLOWED_LABELS")
    """Keys of labels."""
    annotations: NameList = Field((), alias="ALLOWED_ANNOTATIONS")
    """Keys of annotations."""
    runtime_classes: NameList = Field((), alias="ALLOWED_RUNTIME_CLASSES")
    """RuntimeClasses."""
    priority_classes: NameList = Field((), alias="ALLOWED_PRIORITY_CLASSES")
    """PriorityClasses."""

    def rules(self) -> ClassRules:
        return ClassRules(**self.model_dump())


class OperatorSettings(Settings, frozen=True):
    operator: OperatorGroup
    classes: ClassGroup
