"""Every name, label, annotation and field manager that this project writes into a cluster, and nothing else.

Front door and operator must agree on them, so no other module spells one out.  A test checks that.
"""

from __future__ import annotations

import hashlib
import re

from session_manager.domain.values import is_session_id

GROUP = "sessionmanager.dev"
VERSION = "v1alpha1"
API_VERSION = f"{GROUP}/{VERSION}"
SESSION_KIND = "Session"
CLASS_KIND = "SessionClass"
SESSIONS = "sessions"
CLASSES = "sessionclasses"

MANAGED_BY_LABEL = "app.kubernetes.io/managed-by"
COMPONENT_LABEL = "app.kubernetes.io/component"
SESSION_LABEL = f"{GROUP}/session"
CLASS_LABEL = f"{GROUP}/class"
OWNER_LABEL = f"{GROUP}/owner"  # made of the owner's name by label_value
WARM_LABEL = f"{GROUP}/warm"  # the pool that a pod waits in; a claim removes it
INSTALL_LABEL = f"{GROUP}/install"  # the installation whose front doors manage a Session

REFILL_GATE = f"{GROUP}/refill"  # delays the start of a pod that refills a pool

WAKE_ANNOTATION = f"{GROUP}/wake"
SPEC_HASH_ANNOTATION = f"{GROUP}/spec-hash"
PROBE_ANNOTATION = f"{GROUP}/probe"  # the path of our probe; a mesh rewrites the one in the container
ON_EXPIRE_ANNOTATION = f"{GROUP}/on-expire"  # of a volume: Keep or Delete
ON_DELETE_ANNOTATION = f"{GROUP}/on-delete"

MANAGED_BY = "session-manager"
SESSION_COMPONENT = "session"
WARM_COMPONENT = "warm-pool"

# Field managers. Replicas of sessions have a manager of their own, because the operator never applies them.
OPERATOR = "session-operator"
SCALER = "session-scaler"
FRONT_DOOR = "session-manager"

KEDA_API_VERSION = "keda.sh/v1alpha1"
KEDA_FINALIZER = "finalizer.keda.sh"
KEDA_PAUSED = "autoscaling.keda.sh/paused"
KEDA_PAUSED_SCALE_IN = "autoscaling.keda.sh/paused-scale-in"
KEDA_AUTHENTICATION = "session-manager-redis"

CONTAINER = "agent"
PORT_NAME = "http"
HOME = "/home/agent"
HOME_VOLUME = "home"
TMP_VOLUME = "tmp"
USER = 65532  # of the pods; any user except root
DEFAULT_CLASS = "default"

MANAGED_SELECTOR = f"{MANAGED_BY_LABEL}={MANAGED_BY}"

_PREFIX = "session-"
_WARM_PREFIX = "warm-"
_LABEL_VALUE = re.compile(r"[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?")


def child_name(session: str) -> str:
    """Return the one name of a session's Deployment, Service, ScaledObject and claim."""
    return _PREFIX + session


def session_of_child(name: str) -> str | None:
    """Return the session that a child of this name belongs to, or None."""
    session = name.removeprefix(_PREFIX)
    return session if session != name and is_session_id(session) else None


def warm_name(class_name: str) -> str:
    """Return the name of the Deployment of a class's warm pods."""
    return _WARM_PREFIX + class_name


def class_of_pool(name: str) -> str | None:
    """Return the class whose warm Deployment has this name, or None."""
    return name.removeprefix(_WARM_PREFIX) if name.startswith(_WARM_PREFIX) else None


def awake_list(session: str) -> str:
    """Return the key of the Redis list that KEDA watches."""
    return f"session:{session}:awake"


def label_value(text: str) -> str:
    """Return the text as the value of a label. One that Kubernetes does not allow is changed and gets a hash."""
    if _LABEL_VALUE.fullmatch(text):
        return text
    digest = hashlib.sha256(text.encode()).hexdigest()[:10]
    readable = re.sub(r"[^A-Za-z0-9]+", "-", text).strip("-")[:40].rstrip("-")
    return f"{readable}-{digest}" if readable else digest


def selectable_labels(class_name: str, owner: str) -> dict[str, str]:
    """Return the labels by which people select the Sessions of a class or an owner, and their pods."""
    labels = {CLASS_LABEL: label_value(class_name)}
    return {**labels, OWNER_LABEL: label_value(owner)} if owner else labels


def session_labels(session: str, class_name: str, owner: str) -> dict[str, str]:
    return {
        MANAGED_BY_LABEL: MANAGED_BY,
        COMPONENT_LABEL: SESSION_COMPONENT,
        SESSION_LABEL: session,
        **selectable_labels(class_name, owner),
    }


def warm_labels(class_name: str) -> dict[str, str]:
    return {
        MANAGED_BY_LABEL: MANAGED_BY,
        COMPONENT_LABEL: WARM_COMPONENT,
        WARM_LABEL: class_name,
        CLASS_LABEL: class_name,
    }
