"""docker-compose.yml, as the settings and the image understand it. There is no Docker engine in a test."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from session_manager.settings import Settings
from session_manager.store.open import open_store
from session_manager.store.postgres.address import PostgresAddress

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "docker-compose.yml").read_text("utf-8")
VARIABLE = re.compile(r"\$\{(\w+)(?::([-?])([^}]*))?\}")
SECRETS = {
    "POSTGRES_PASSWORD": "a" * 48,
    "PGADMIN_PASSWORD": "b" * 48,
    "REDIS_PASSWORD": "c" * 48,
    "SESSION_API_KEYS": "web:" + "d" * 48,
}


def compose(**environment: str) -> Any:
    """The file as Compose reads it. KeyError: a variable that has to have a value has none."""

    def value(found: re.Match[str]) -> str:
        name, operator, default = found.groups()
        given = environment.get(name, "")
        if operator == "?" and not given:
            raise KeyError(name)
        return given or (default if operator == "-" else "")

    return yaml.safe_load(VARIABLE.sub(value, re.sub(r"(?m)^\s*#.*$", "", TEXT)))


def test_the_services():
    services = compose(**SECRETS)["services"]
    assert set(services) == {"postgres", "pgadmin", "redis", "session-manager"}
    assert services["postgres"]["image"] == "postgres:15"
    environment = services["postgres"]["environment"]
    assert (environment["POSTGRES_USER"], environment["POSTGRES_DB"]) == ("adk_user", "adk_sessions")
    published = {name: service["ports"] for name, service in services.items()}
    assert published == {
        "postgres": ["127.0.0.1:5432:5432"],
        "pgadmin": ["127.0.0.1:5050:80"],
        "redis": ["127.0.0.1:6379:6379"],
        "session-manager": ["127.0.0.1:8080:8080"],
    }


def test_values_come_from_the_environment():
    services = compose(**SECRETS, POSTGRES_USER="me", POSTGRES_DB="facts", POSTGRES_PORT="6000", PGADMIN_PORT="6001")[
        "services"
    ]
    assert services["postgres"]["ports"] == ["127.0.0.1:6000:5432"]
    assert services["pgadmin"]["ports"] == ["127.0.0.1:6001:80"]
    door = services["session-manager"]["environment"]
    assert (door["SESSION_DB_URI"], door["SESSION_DB_PASSWORD"]) == ("postgresql://me@postgres:5432/facts", "a" * 48)


@pytest.mark.parametrize("missing", list(SECRETS))
def test_nothing_starts_without_its_password(missing: str):
    with pytest.raises(KeyError, match=missing):
        compose(**{name: value for name, value in SECRETS.items() if name != missing})


def test_every_service_is_watched_keeps_its_data_and_comes_back():
    whole = compose(**SECRETS)
    kept = []
    for service in whole["services"].values():
        assert service["healthcheck"]["test"][0] in ("CMD", "CMD-SHELL")
        assert service["restart"] == "unless-stopped"
        kept += [volume.partition(":")[0] for volume in service["volumes"]]
        for needed, how in service.get("depends_on", {}).items():
            assert needed in whole["services"]
            assert how == {"condition": "service_healthy"}
    assert sorted(kept) == sorted(whole["volumes"])


def test_the_front_door_understands_what_it_is_given(monkeypatch: pytest.MonkeyPatch):
    service = compose(**SECRETS)["services"]["session-manager"]
    environment = {name: "" if value is None else str(value) for name, value in service["environment"].items()}
    assert environment.keys() <= Settings.declared().keys()
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    settings = Settings.from_environment()
    assert open_store(settings).uri == "postgresql://postgres:5432/adk_sessions"
    address = PostgresAddress.parse(environment["SESSION_DB_URI"], settings.database.plain_hosts)
    assert "sslmode" not in address.uri
    assert (settings.redis.host, settings.redis.port, settings.server.listen_port) == ("redis", 6379, 8080)
    assert (
        int(service["stop_grace_period"].rstrip("s"))
        > settings.server.shutdown_timeout + settings.server.shutdown_delay
    )


def test_defaults_are_those_of_the_settings():
    environment = compose(**SECRETS)["services"]["session-manager"]["environment"]
    for name in ("LOG_LEVEL", "SESSION_TTL", "IDLE_TIMEOUT"):
        default = Settings.declared()[name].default
        assert type(default)(environment[name]) == default


def test_every_variable_is_in_the_example():
    told = (ROOT / ".env.example").read_text("utf-8")
    for name, *_ in VARIABLE.findall(TEXT):
        assert re.search(rf"^(# )?{name}=", told, re.M), name


def test_the_image_contains_the_commands_of_the_service():
    dockerfile = (ROOT / "Dockerfile").read_text("utf-8")
    assert compose(**SECRETS)["services"]["session-manager"]["volumes"] == ["session-data:/data"]
    assert "DATA_DIR=/data" in dockerfile
    assert "EXPOSE 8080" in dockerfile


def test_backups_that_are_asked_for_can_be_made_and_are_encrypted():
    service = compose(**SECRETS, STORAGE_BUCKET="mine", BACKUP_ENCRYPTION_KEYS="key")["services"]["session-manager"]
    given = service["environment"]
    assert (given["STORAGE_BUCKET"], given["BACKUP_ENCRYPTION_KEYS"]) == ("mine", "key")
    stages = (ROOT / "Dockerfile").read_text("utf-8").split("\nFROM ")
    [stage] = [each for each in stages if each.partition("\n")[0].endswith(f" AS {service['build']['target']}")]
    assert "postgresql-client" in stage
