"""Every variable and its default. A change here is a change for users."""

from __future__ import annotations

import pytest

from session_manager.settings import Settings
from session_operator.settings import OperatorSettings
from tests.settings.written import meaning, written

DEFAULTS = {
    "server": {
        "HOST": "127.0.0.1",
        "PORT": "",
        "CONTAINER_PORT": "8080",
        "SESSION_API_KEYS": "",
        "TRUSTED_PROXIES": "",
        "CORS_ORIGINS": "",
        "KEY_CLASSES": "",
        "DATA_DIR": "data",
        "REQUEST_TIMEOUT": "60",
        "KEEP_ALIVE_TIMEOUT": "75",
        "SHUTDOWN_DELAY": "0",
        "SHUTDOWN_TIMEOUT": "30",
    },
    "capacity": {
        "BUFFER_BYTES": "134217728",
        "BUFFER_BYTES_PER_CALLER": "33554432",
        "MAX_CONNECTIONS": "8192",
        "MAX_CONNECTIONS_PER_ADDRESS": "2048",
        "MAX_REQUESTS_PER_CALLER": "128",
        "MAX_STREAMS_PER_CALLER": "32",
        "HEAD_TIMEOUT": "15",
        "WRITE_TIMEOUT": "30",
    },
    "database": {
        "SESSION_DB_URI": "",
        "SESSION_DB_PASSWORD": "",
        "CLOUD_RUN_SESSION_DB_PATH": "",
        "SESSION_DB_PLAIN_HOSTS": "",
        "DATABASE_POOL": "10",
        "DATABASE_PATIENCE": "5",
    },
    "redis": {
        "REDIS_URL": "",
        "REDIS_HOST": "127.0.0.1",
        "REDIS_PORT": "6379",
        "REDIS_PASSWORD": "",
        "REDIS_TIMEOUT": "2",
    },
    "sessions": {
        "SESSION_TTL": "86400",
        "IDLE_TIMEOUT": "120",
        "LEASE": "15",
        "ANSWER_WITHIN": "30",
        "REPAIR_INTERVAL": "2",
        "MAX_DRAINS": "256",
    },
    "quotas": {
        "SESSIONS_PER_USER": "1000",
        "AWAKE_PER_USER": "50",
        "WAKES_PER_USER": "8",
        "MESSAGES_PER_SESSION": "100",
        "MESSAGES_PER_USER": "1000",
        "STORED_PER_USER": "1073741824",
        "QUOTAS": "",
    },
    "pods": {
        "SESSION_RUNTIME": "process",
        "SESSION_CLASSES": "",
        "SESSION_MANAGER_URL": "",
        "MAX_WAKES": "32",
        "MAX_AWAKE": "0",
        "RETRY_FIRST": "5",
        "RETRY_LAST": "300",
        "HEARTBEAT": "5",
    },
    "kubernetes": {
        "SESSIONS_NAMESPACE": "sessions",
        "INSTALL_ID": "session-manager",
        "POD_CIDRS": "",
        "USER_POD_IMAGE": "",
        "USER_POD_PORT": "1111",
        "POD_USERS_ASSIGNED": "false",
    },
    "limits": {
        "RATE_LIMIT_CREATE": "100/minute",
        "RATE_LIMIT_WAKE": "50/minute",
        "RATE_LIMIT_CHAT": "100/minute",
        "RATE_LIMIT_DELETE": "50/minute",
        "RATE_LIMIT_DEFAULT": "3000/minute",
        "RATE_LIMIT_FAILED_KEYS": "30/minute",
    },
    "backup": {
        "STORAGE_BUCKET": "",
        "GOOGLE_CLOUD_PROJECT": "",
        "STORAGE_EMULATOR_HOST": "",
        "BACKUP_INTERVAL": "21600",
        "BACKUP_KEEP": "8",
        "BACKUP_KEEP_DAYS": "14",
        "BACKUP_TIMEOUT": "30",
        "BACKUP_SHUTDOWN_TIMEOUT": "60",
        "BACKUP_ENCRYPTION_KEYS": "",
        "BACKUP_MODE": "interval",
        "BACKUP_SHIP_INTERVAL": "3",
        "LITESTREAM": "",
        "WRITER_LEASE": "30",
        "WRITER_YIELDS": "false",
    },
    "logs": {
        "LOG_LEVEL": "INFO",
        "LOG_FORMAT": "auto",
        "INSTANCE": "",
    },
    "traces": {
        "OTEL_EXPORTER_OTLP_ENDPOINT": "",
        "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "",
        "OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf",
        "OTEL_TRACES_EXPORTER": "otlp",
        "OTEL_SDK_DISABLED": "false",
    },
    "agents": {
        "ENVIRONMENT": "development",
        "GEMINI_API_KEY": "",
        "GEMINI_MODEL": "",
        "OPENAI_API_KEY": "",
        "ANTHROPIC_API_KEY": "",
        "GOOGLE_API_KEY": "",
    },
}
OPERATOR = {
    "SCALER": "native",
    "KEDA_REDIS_ADDRESS": "",
    "OPERATOR_HOST": "0.0.0.0",
    "OPERATOR_PORT": "8081",
    "STRAY_AFTER": "30",
    "RECONCILERS": "8",
}

CLASSES = {
    "ALLOWED_SECRETS": "",
    "RESERVED_SECRETS": "",
    "ALLOWED_LABELS": "",
    "ALLOWED_ANNOTATIONS": "",
    "ALLOWED_RUNTIME_CLASSES": "",
    "ALLOWED_PRIORITY_CLASSES": "",
}


def declared(settings: type[Settings]) -> dict[str, dict[str, str]]:
    return {
        name: {str(each.alias): written(each.default) for each in group.model_fields.values()}
        for name, group in settings.groups().items()
    }


def test_no_variable_and_no_default_changes_unnoticed():
    assert declared(Settings) == DEFAULTS
    assert declared(OperatorSettings) == {**DEFAULTS, "operator": OPERATOR, "classes": CLASSES}


def test_every_variable_stands_once():
    count = sum(len(group) for group in DEFAULTS.values())
    assert len(Settings.declared()) == count


@pytest.mark.parametrize(
    "variable", [name for name, each in OperatorSettings.declared().items() if written(each.default)]
)
def test_every_default_is_a_valid_value(variable: str):
    each = OperatorSettings.declared()[variable]
    found = OperatorSettings.from_environment(**{variable.lower(): written(each.default)})
    assert found == OperatorSettings.from_environment()
    assert found.given == {variable}
    assert meaning(each).endswith(".")
