"""The Kubernetes runtime."""

from __future__ import annotations

from dataclasses import dataclass

from session_manager.settings.declared import setting
from session_manager.settings.kinds import NETWORKS, PORT, Network, matching

NAMESPACE = matching(
    "namespace", "a lower-case DNS label of at most 63 characters", r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?"
)
LABEL = matching(
    "id",
    "at most 63 letters, digits, '-', '_' and '.', as in the value of a label",
    r"[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?",
)
IMAGE = matching("image", "a reference like registry.example/agent:1.2", r"[A-Za-z0-9][-A-Za-z0-9._:/@]*")


@dataclass(frozen=True, slots=True)
class KubernetesSettings:
    namespace: str = setting(
        "SESSIONS_NAMESPACE", NAMESPACE, "default", "Namespace of Sessions, SessionClasses and their pods."
    )
    install_id: str = setting(
        "INSTALL_ID", LABEL, "session-manager", "Marks the Sessions of one installation in a cluster."
    )
    pod_networks: tuple[Network, ...] = setting(
        "POD_CIDRS", NETWORKS, (), "Networks of pods, comma-separated. If set, other addresses are rejected."
    )
    image: str | None = setting("USER_POD_IMAGE", IMAGE, None, "Image of the default class.")
    port: int = setting("USER_POD_PORT", PORT, 1111, "Port of the default class.")
