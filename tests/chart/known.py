"""What the chart knows of the settings: ``python -m tests.chart.known`` writes it, as ``make docs`` does.

``frontDoor.env`` and ``operator.env`` take every setting that no other value of the chart sets.
"""

from __future__ import annotations

import json

from session_manager.settings import Settings
from session_operator.settings import OperatorSettings
from tests.chart.helm import CHART

FILE = CHART / "files" / "settings.json"

_REDIS = "use redis or externalRedis"
_DATABASE = "use postgresql or database"
_IMAGE = "it belongs to the image"
_PROCESSES = "it is for pods that are processes"
ELSEWHERE = {
    "ALLOWED_ANNOTATIONS": "use sessions.allowedAnnotations",
    "ALLOWED_LABELS": "use sessions.allowedLabels",
    "ALLOWED_PRIORITY_CLASSES": "use sessions.allowedPriorityClasses",
    "ALLOWED_RUNTIME_CLASSES": "use sessions.allowedRuntimeClasses",
    "ALLOWED_SECRETS": "use sessions.allowedSecrets",
    "BACKUP_SHUTDOWN_TIMEOUT": "use backup.shutdownSeconds",
    "CLOUD_RUN_SESSION_DB_PATH": _DATABASE,
    "CONTAINER_PORT": _IMAGE,
    "DATA_DIR": _IMAGE,
    "HOST": _IMAGE,
    "IDLE_TIMEOUT": "use sessions.idleTimeoutSeconds",
    "INSTALL_ID": "use sessions.installId",
    "INSTANCE": "it is the name of the pod",
    "KEDA_REDIS_ADDRESS": "use keda.redisAddress",
    "LOG_LEVEL": "use frontDoor.logLevel or operator.logLevel",
    "OPERATOR_HOST": _IMAGE,
    "OPERATOR_PORT": "the Service needs it",
    "POD_CIDRS": "use sessions.podCIDRs",
    "PORT": _IMAGE,
    "POD_USERS_ASSIGNED": "use openshift",
    "REDIS_HOST": _REDIS,
    "REDIS_PASSWORD": _REDIS,
    "REDIS_PORT": _REDIS,
    "REDIS_URL": _REDIS,
    "RESERVED_SECRETS": "the chart lists the Secrets of the service",
    "SCALER": "use scaler",
    "SESSIONS_NAMESPACE": "use sessions.namespace",
    "SESSION_API_KEYS": "use apiKeys.existingSecret",
    "SESSION_CLASSES": _PROCESSES,
    "SESSION_DB_PASSWORD": _DATABASE,
    "SESSION_DB_URI": _DATABASE,
    "SESSION_MANAGER_URL": "it is the address of the Service",
    "SESSION_RUNTIME": "it is kubernetes",
    "SESSION_TTL": "use sessions.ttlSeconds",
    "SHUTDOWN_DELAY": "use frontDoor.shutdownDelaySeconds",
    "SHUTDOWN_TIMEOUT": "use frontDoor.shutdownTimeoutSeconds",
    "STORAGE_BUCKET": "use backup.bucket",
    "TRUSTED_PROXIES": "use frontDoor.trustedProxies",
    "USER_POD_IMAGE": "use defaultClass.image",
    "USER_POD_PORT": "use defaultClass.port",
}


def text() -> str:
    known = {
        "frontDoor": sorted(Settings.declared().keys() - ELSEWHERE.keys()),
        "operator": sorted(OperatorSettings.declared().keys() - ELSEWHERE.keys()),
        "elsewhere": ELSEWHERE,
    }
    return json.dumps(known, indent=2) + "\n"


if __name__ == "__main__":
    FILE.write_text(text(), "utf-8")
