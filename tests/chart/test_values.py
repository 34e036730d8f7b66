"""What the values lead to, and which are refused."""

from __future__ import annotations

import json
import subprocess
from typing import Any

import pytest
import yaml

from session_manager.activity.reconnecting import Target
from session_manager.store.postgres.address import PostgresAddress
from tests.chart.helm import CHART, KEDA, ROOT, needs_helm, refusal, render, run

pytestmark = needs_helm

Json = dict[str, Any]

SCHEMA: Json = json.loads((CHART / "values.schema.json").read_text("utf-8"))
DEFINITIONS: Json = SCHEMA["definitions"]
WITHOUT_POSTGRESQL: Json = {"postgresql": {"enabled": False}}
EXTERNAL_REDIS: Json = {"redis": {"enabled": False}, "externalRedis": {"host": "redis.internal", "password": "x"}}


def test_lint():
    done = run("lint", "--strict", "--kube-version", "1.34.0", str(CHART))
    assert done.returncode == 0, done.stdout


def test_the_manifests_are_those_of_the_chart():
    done = subprocess.run(["hack/manifests", "--check"], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"replicas": 3}, "replicas"),
        ({"frontDoor": {"replica": 3}}, "replica"),
        ({"frontDoor": {"replicas": 0}}, "replicas"),
        ({"scaler": "knative"}, "scaler"),
        ({"database": {"uri": "mysql://x"}}, "uri"),
        ({"sessions": {"podCIDRs": ["10.0.0.0"]}}, "podCIDRs"),
        ({"sessions": {"namespace": "Not A Name"}}, "namespace"),
        ({"sessions": {"namespace": ""}}, "namespace"),
        ({"sessions": {"allowedSecrets": ["a*b"]}}, "allowedSecrets"),
        ({"networkPolicy": {"publicPorts": [0]}}, "publicPorts"),
        ({"networkPolicy": {"deniedCIDRs": ["0.0.0.0/0"]}}, "deniedCIDRs"),
        ({"networkPolicy": {"allowedCIDRs": ["10.0.0.0/8"]}}, "allowedCIDRs"),
        ({"frontDoor": {"service": {"type": "Public"}}}, "type"),
        ({"frontDoor": {"env": {"log-level": "INFO"}}}, "log-level"),
        ({"frontDoor": {"pdb": {"maxUnavailable": 0}}}, "maxUnavailable"),
        ({"ingress": {"host": "*.*.example.com"}}, "host"),
        ({"redis": {"password": "two\nlines"}}, "password"),
        ({"postgresql": {"password": "two\nlines"}}, "password"),
        ({"redis": None}, "redis"),
        ({"frontDoor": {"persistence": None}}, "persistence"),
        ({"backup": {"bucket": "b", "keep": 3}}, "keep"),
        ({"backup": {"shutdownSeconds": -1}}, "shutdownSeconds"),
    ],
    ids=str,
)
def test_values_that_the_schema_refuses(values: Json, words: str):
    said = refusal(values)
    assert "values don't meet the specifications of the schema" in said
    assert words in said


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"redis": {"enabled": False}}, "set externalRedis.host (with a password) or externalRedis.urlSecret"),
        (EXTERNAL_REDIS, "name a Secret with keda-username and keda-password in keda.existingSecret"),
        ({"redis": {"existingSecret": "mine"}, "sessions": {"namespace": "people"}}, "name a Secret there"),
        ({"sessions": {"allowedSecrets": ["session-manager-key"]}}, "session-manager-key is a Secret of the service"),
        ({"backup": {"existingSecret": "b"}, "sessions": {"allowedSecrets": ["b"]}}, "b is a Secret of the service"),
        (WITHOUT_POSTGRESQL, "the database is SQLite on one volume, which only one front door may write"),
        (
            {**WITHOUT_POSTGRESQL, "frontDoor": {"replicas": 1, "autoscaling": {"enabled": True}}},
            "set frontDoor.replicas to 1 and frontDoor.autoscaling.enabled to false",
        ),
        (
            {"gateway": {"enabled": True}},
            "gateway.parentRefs names no Gateway; expected for example [{name: my-gateway}]",
        ),
        ({"apiKeys": {"key": "abc"}}, "apiKeys.key is not a key; expected 16 or more visible ASCII characters"),
        ({"apiKeys": {"key": "0123456789,0123456789"}}, "without a comma"),
        ({"apiKeys": {"key": "0123456789abcdef\n"}}, "apiKeys.key is not a key"),
        ({"frontDoor": {"autoscaling": {"enabled": True, "minReplicas": 20}}}, "minReplicas (20) is above maxReplicas"),
        (
            {"frontDoor": {"resources": {"limits": {"memory": "512mb"}}}},
            'frontDoor.resources.limits.memory: "512mb" is not a quantity of Kubernetes; expected for example 512Mi',
        ),
        ({"redis": {"resources": {"limits": {"memory": "512m"}}}}, '"512m" is less than a byte'),
        ({"operator": {"resources": {"requests": {"cpu": "half"}}}}, '"half" is not a quantity'),
        ({"redis": {"persistence": {"size": "8gb"}}}, 'redis.persistence.size: "8gb" is not a quantity'),
        (
            {"frontDoor": {"env": {"RATE_LIMIT_CHATT": "off"}}},
            "frontDoor.env.RATE_LIMIT_CHATT: there is no such setting; expected one of docs/settings.md",
        ),
        ({"operator": {"env": {"OTEL_X": "1"}}}, "Variables for libraries belong into operator.extraEnv"),
        ({"frontDoor": {"env": {"IDLE_TIMEOUT": 5}}}, "set by the chart; use sessions.idleTimeoutSeconds"),
    ],
    ids=str,
)
def test_values_that_are_refused_in_a_sentence(values: Json, words: str):
    said = refusal(values)
    assert said.startswith("Error: execution error at ")
    assert words in said


def test_the_schema_requires_every_value():
    """So ``redis: null``, with which helm drops all defaults below it, is refused where it stands."""

    def check(schema: Json, values: Json, path: str) -> None:
        node = DEFINITIONS[schema["$ref"].rpartition("/")[2]] if "$ref" in schema else schema
        if values and "properties" in node and path != ".pods" and not path.endswith(".resources"):
            assert set(node["required"]) == values.keys(), path
            for name, value in values.items():
                if isinstance(value, dict):
                    check(node["properties"][name], value, f"{path}.{name}")

    check(SCHEMA, yaml.safe_load((CHART / "values.yaml").read_text("utf-8")), "")


def test_keda_logs_in_as_a_user_of_its_own():
    objects = render({"sessions": {"namespace": "people"}})
    authentication = objects.find("TriggerAuthentication", "session-manager-redis")
    assert authentication["metadata"]["namespace"] == "people"
    secret = objects.find("Secret", "session-manager-redis-keda")
    assert secret["metadata"]["namespace"] == "people"
    assert authentication["spec"]["secretTargetRef"] == [
        {"parameter": "username", "name": "session-manager-redis-keda", "key": "keda-username"},
        {"parameter": "password", "name": "session-manager-redis-keda", "key": "keda-password"},
    ]
    own = objects.find("Secret", "redis-credentials")
    assert own["metadata"]["namespace"] == "prod"
    assert {name: own["stringData"][name] for name in secret["stringData"]} == secret["stringData"]
    assert secret["stringData"]["keda-password"] != own["stringData"]["redis-password"]


@pytest.mark.parametrize(("values", "served"), [({}, ()), ({"scaler": "native"}, (KEDA,))], ids=["absent", "native"])
def test_nothing_of_keda_where_it_does_not_scale(values: Json, served: tuple[str, ...]):
    objects = render(values, served=served)
    assert objects.names("TriggerAuthentication") == set()
    assert "session-manager-redis-keda" not in objects.names("Secret")


def test_redis_refuses_to_forget():
    script = render().find("ConfigMap", "session-manager-redis")["data"]["start.sh"]
    for words in (
        "--appendonly yes",
        "--maxmemory-policy noeviction",
        "user default on #",
        "~session:*:awake resetchannels -@all +ping +eval +type +llen",
    ):
        assert words in script


def test_redis_of_somebody_else():
    objects = render({**EXTERNAL_REDIS, "scaler": "native"})
    assert not {"session-manager-redis"} & (objects.names("StatefulSet") | objects.names("NetworkPolicy"))
    for name in ("session-manager", "session-operator"):
        env = objects.env("Deployment", name)
        assert (env["REDIS_HOST"], env["REDIS_PORT"]) == ("redis.internal", "6379")
        assert env["REDIS_PASSWORD"] == {"secretKeyRef": {"name": "redis-credentials", "key": "redis-password"}}


def test_redis_of_somebody_else_with_tls_and_a_user():
    other = {"host": "redis.internal", "port": 6380, "tls": True, "username": "app", "existingSecret": "mine"}
    env = render({"redis": {"enabled": False}, "externalRedis": other, "scaler": "native"}).env(
        "Deployment", "session-operator"
    )
    target = Target.from_url(env["REDIS_URL"])
    assert (target.host, target.port, target.username, target.tls is not None) == ("redis.internal", 6380, "app", True)
    assert env["REDIS_PASSWORD"] == {"secretKeyRef": {"name": "mine", "key": "redis-password"}}


def test_redis_by_a_url():
    objects = render({"redis": {"enabled": False}, "externalRedis": {"urlSecret": "mine"}, "scaler": "native"})
    env = objects.env("Deployment", "session-manager")
    assert env["REDIS_URL"] == {"secretKeyRef": {"name": "mine", "key": "redis-url"}}
    assert "REDIS_HOST" not in env
    assert "redis-credentials" not in objects.names("Secret")


@pytest.mark.parametrize(
    ("database", "secret"),
    [({"uri": "postgresql://u:p@db/sessions"}, "session-db"), ({"existingSecret": "mine"}, "mine")],
    ids=["uri", "secret"],
)
def test_postgresql_of_somebody_else(database: Json, secret: str):
    objects = render({"postgresql": {"enabled": False}, "database": database})
    assert "session-manager-postgres" not in objects.names("StatefulSet")
    assert objects.find("Deployment", "session-manager")["spec"]["replicas"] == 2
    uri = objects.env("Deployment", "session-manager")["SESSION_DB_URI"]
    assert uri == {"secretKeyRef": {"name": secret, "key": "session-db-uri"}}


def test_the_bundled_postgresql_needs_no_certificate():
    env = render().env("Deployment", "session-manager")
    address = PostgresAddress.parse(env["SESSION_DB_URI"], env["SESSION_DB_PLAIN_HOSTS"])
    assert address.hosts == ("session-manager-postgres",)
    assert "sslmode" not in address.uri
    env = render({"postgresql": {"enabled": False}, "database": {"uri": "postgresql://db/x"}}).env(
        "Deployment", "session-manager"
    )
    assert "SESSION_DB_PLAIN_HOSTS" not in env


def test_given_secrets_are_used_and_none_is_made():
    values = {
        "apiKeys": {"existingSecret": "keys"},
        "redis": {"existingSecret": "redis"},
        "keda": {"existingSecret": "keda"},
        "postgresql": {"existingSecret": "postgres"},
    }
    objects = render(values)
    assert objects.names("Secret") == set()
    used = {str(value) for value in objects.env("Deployment", "session-manager").values() if isinstance(value, dict)}
    assert {name for name in ("keys", "redis", "postgres") if any(f"'{name}'" in each for each in used)} == {
        "keys",
        "redis",
        "postgres",
    }


def test_what_outlives_an_uninstall():
    objects = render({"sessions": {"namespace": "people", "createNamespace": True}})
    kept = {
        (each["kind"], each["metadata"]["name"])
        for each in objects.items
        if each["metadata"].get("annotations", {}).get("helm.sh/resource-policy") == "keep"
    }
    assert kept == {
        ("CustomResourceDefinition", "sessions.sessionmanager.dev"),
        ("CustomResourceDefinition", "sessionclasses.sessionmanager.dev"),
        ("Namespace", "people"),
        ("NetworkPolicy", "session-pods"),
        ("Secret", "redis-credentials"),
        ("Secret", "postgres-credentials"),
        ("Secret", "session-manager-key"),
    }


def test_the_default_class_is_a_setting_of_both():
    values = {"defaultClass": {"image": {"repository": "me/agent", "tag": "7"}, "port": 9000}}
    objects = render(values)
    for name in ("session-manager", "session-operator"):
        env = objects.env("Deployment", name)
        assert (env["USER_POD_IMAGE"], env["USER_POD_PORT"]) == ("me/agent:7", "9000")
    assert objects.names("SessionClass") == set()  # helm refuses one in the release that brings its kind


def test_from_outside():
    values = {
        "ingress": {"enabled": True, "host": "a.example", "tlsSecret": "tls", "className": "nginx"},
        "gateway": {"enabled": True, "parentRefs": [{"name": "gw"}], "hostnames": ["a.example"]},
        "frontDoor": {"service": {"type": "LoadBalancer", "port": 8000}},
    }
    objects = render(values)
    ingress = objects.find("Ingress", "session-manager")["spec"]
    assert ingress["tls"] == [{"hosts": ["a.example"], "secretName": "tls"}]
    [rule] = ingress["rules"]
    assert rule["host"] == "a.example"
    backend = rule["http"]["paths"][0]["backend"]["service"]
    assert backend == {"name": "session-manager", "port": {"name": "http"}}
    route = objects.find("HTTPRoute", "session-manager")["spec"]
    assert route["rules"][0]["backendRefs"] == [{"name": "session-manager", "port": 8000}]
    service = objects.find("Service", "session-manager")["spec"]
    assert (service["type"], service["ports"]) == (
        "LoadBalancer",
        [{"name": "http", "port": 8000, "targetPort": "http"}],
    )
    assert render().names("Ingress") | render().names("HTTPRoute") == set()


@pytest.mark.parametrize("host", ["*.example.com", "no", "1e3", "0123", "null"])
def test_a_host_is_text_whatever_yaml_makes_of_it(host: str):
    objects = render(
        {"ingress": {"enabled": True, "host": host, "tlsSecret": "yes", "annotations": {"a": 9090, "b": True}}}
    )
    ingress = objects.find("Ingress", "session-manager")
    assert ingress["spec"]["rules"][0]["host"] == host
    assert ingress["spec"]["tls"] == [{"hosts": [host], "secretName": "yes"}]
    assert ingress["metadata"]["annotations"] == {"a": "9090", "b": "true"}


def test_what_prometheus_and_grafana_get():
    flags = {"serviceMonitor": True, "prometheusRule": True, "dashboard": True, "labels": {"release": "prom"}}
    objects = render({"monitoring": flags})
    monitor = objects.find("ServiceMonitor", "session-manager")
    assert monitor["metadata"]["labels"]["release"] == "prom"
    [endpoint] = monitor["spec"]["endpoints"]
    assert endpoint["authorization"] == {"credentials": {"name": "session-manager-key", "key": "metrics-key"}}
    [group] = objects.find("PrometheusRule", "session-manager")["spec"]["groups"]
    assert {rule["alert"] for rule in group["rules"]} == {
        "SessionManagerDown",
        "SessionManagerRefuses",
        "SessionOperatorDown",
        "SessionRedisDown",
        "SessionMessagesWait",
        "SessionWakesFail",
        "SessionPodsDie",
        "SessionVolumeFills",
        "SessionPartUnhealthy",
        "SessionBackupTooOld",
    }
    data = objects.find("ConfigMap", "session-manager-dashboard")["data"]
    assert data["session-manager.json"] == (CHART / "files" / "dashboard.json").read_text()
    assert render().names("ServiceMonitor") | render().names("PrometheusRule") == set()


def test_the_key_of_prometheus_acts_for_a_user_of_its_own():
    found = render().find("Secret", "session-manager-key")["stringData"]
    assert found["session-api-keys"] == f"service:{found['key']},metrics@prometheus:{found['metrics-key']}"


def test_the_notes_end_with_three_commands_and_tell_where_keda_is_missing():
    text = (CHART / "templates" / "NOTES.txt").read_text()
    [_, commands] = text.split("\nNext:\n")
    assert len([line for line in commands.splitlines() if line.startswith("  ")]) == 3
    assert "KEDA is not installed" in text
