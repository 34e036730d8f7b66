"""All manifests, compared in full."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from session_manager.domain.session_class import PodProtocol, Probe, Redelivery, SessionClass
from session_manager.runtime.kubernetes.resources import SessionSpec
from session_manager.runtime.kubernetes.session_class import (
    ClassSpec,
    ClusterClasses,
    PodTemplate,
    Storage,
    parse_class,
)
from session_manager.settings import Settings
from session_operator import manifests
from session_operator.manifests import RedisTrigger

UUID = "8c5f1f4e-3b1a-4a5e-9d38-2f1f0a7e6b11"
PLAIN = ClassSpec(SessionClass("default", image="registry/echo:1"), uid="class-uid")
SESSION = SessionSpec(UUID, "session-uid", PLAIN)
NAME = f"session-{UUID}"
OWNER = {
    "apiVersion": "sessionmanager.dev/v1alpha1",
    "kind": "Session",
    "name": UUID,
    "uid": "session-uid",
    "controller": True,
    "blockOwnerDeletion": False,
}
LABELS = {
    "app.kubernetes.io/managed-by": "session-manager",
    "app.kubernetes.io/component": "session",
    "sessionmanager.dev/session": UUID,
    "sessionmanager.dev/class": "default",
}
METADATA = {"name": NAME, "labels": LABELS, "ownerReferences": [OWNER]}
CONTAINER: dict[str, Any] = {
    "name": "agent",
    "image": "registry/echo:1",
    "env": [
        {"name": "PORT", "value": "1111"},
        {"name": "HOME", "value": "/home/agent"},
        {"name": "TMPDIR", "value": "/tmp"},
        {"name": "SESSION_ID", "value": UUID},
    ],
    "ports": [{"name": "http", "containerPort": 1111}],
    "resources": {
        "requests": {"cpu": "50m", "memory": "128Mi", "ephemeral-storage": "64Mi"},
        "limits": {"cpu": "1", "memory": "512Mi", "ephemeral-storage": "1Gi"},
    },
    "terminationMessagePolicy": "FallbackToLogsOnError",
    "readinessProbe": {"httpGet": {"path": "/health", "port": "http"}, "periodSeconds": 5, "timeoutSeconds": 1},
    "securityContext": {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    },
    "volumeMounts": [
        {"name": "tmp", "mountPath": "/tmp"},
        {"name": "home", "mountPath": "/home/agent"},
    ],
}
POD: dict[str, Any] = {
    "automountServiceAccountToken": False,
    "enableServiceLinks": False,
    "terminationGracePeriodSeconds": 5,
    "securityContext": {
        "runAsNonRoot": True,
        "runAsUser": 65532,
        "runAsGroup": 65532,
        "seccompProfile": {"type": "RuntimeDefault"},
    },
    "containers": [CONTAINER],
    "volumes": [
        {"name": "tmp", "emptyDir": {"sizeLimit": "1Gi"}},
        {"name": "home", "emptyDir": {"sizeLimit": "1Gi"}},
    ],
}
HASH = "sessionmanager.dev/spec-hash"
PROBE = "sessionmanager.dev/probe"


def test_the_deployment_that_is_applied_never_mentions_replicas():
    manifest = manifests.deployment(SESSION)
    digest = manifest["metadata"]["annotations"][HASH]
    assert manifest == {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {**METADATA, "annotations": {HASH: digest}},
        "spec": {
            "paused": False,
            "revisionHistoryLimit": 0,
            "strategy": {"type": "Recreate"},
            "selector": {"matchLabels": {"sessionmanager.dev/session": UUID}},
            "template": {"metadata": {"labels": LABELS, "annotations": {PROBE: "/health", HASH: digest}}, "spec": POD},
        },
    }


def test_the_deployment_that_is_created_is_the_same_with_no_replicas():
    applied = manifests.deployment(SESSION)
    assert manifests.new_deployment(SESSION) == {**applied, "spec": {**applied["spec"], "replicas": 0}}


def test_the_service_is_headless():
    assert manifests.service(SESSION) == {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": METADATA,
        "spec": {
            "clusterIP": "None",
            "selector": {"sessionmanager.dev/session": UUID},
            "ports": [{"name": "http", "port": 1111, "targetPort": "http"}],
        },
    }


def test_no_push_wakes_a_suspended_session():
    found = manifests.scaled_object(replace(SESSION, suspended=True), RedisTrigger("redis.example:6379"))
    assert found["metadata"]["annotations"] == {"autoscaling.keda.sh/paused": "true"}


def test_the_scaled_object_never_scales_in():
    assert manifests.scaled_object(SESSION, RedisTrigger("redis.example:6379", tls=True)) == {
        "apiVersion": "keda.sh/v1alpha1",
        "kind": "ScaledObject",
        "metadata": {**METADATA, "annotations": {"autoscaling.keda.sh/paused-scale-in": "true"}},
        "spec": {
            "scaleTargetRef": {"name": NAME},
            "minReplicaCount": 0,
            "maxReplicaCount": 1,
            "triggers": [
                {
                    "type": "redis",
                    "metadata": {
                        "address": "redis.example:6379",
                        "listName": f"session:{UUID}:awake",
                        "listLength": "1",
                        "activationListLength": "0",
                        "databaseIndex": "0",
                        "enableTLS": "true",
                    },
                    "authenticationRef": {"name": "session-manager-redis"},
                }
            ],
        },
    }


def test_the_volume_claim_has_no_owner():
    assert manifests.volume_claim(SESSION, Storage("2Gi", "fast")) == {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": {
            "name": NAME,
            "labels": LABELS,
            "annotations": {"sessionmanager.dev/on-expire": "Keep", "sessionmanager.dev/on-delete": "Delete"},
        },
        "spec": {
            "accessModes": ["ReadWriteOnce"],
            "resources": {"requests": {"storage": "2Gi"}},
            "storageClassName": "fast",
        },
    }


def test_a_volume_claim_leaves_the_storage_class_to_the_cluster():
    assert "storageClassName" not in manifests.volume_claim(SESSION, Storage("2Gi"))["spec"]


def test_the_warm_pool_has_no_session():
    manifest = manifests.warm_deployment(ClassSpec(PLAIN.base, warm=3, uid="class-uid"))
    digest = manifest["metadata"]["annotations"][HASH]
    labels = {
        "app.kubernetes.io/managed-by": "session-manager",
        "app.kubernetes.io/component": "warm-pool",
        "sessionmanager.dev/warm": "default",
        "sessionmanager.dev/class": "default",
    }
    container = {**CONTAINER, "env": CONTAINER["env"][:-1]}
    assert manifest == {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {
            "name": "warm-default",
            "labels": labels,
            "annotations": {HASH: digest},
            "ownerReferences": [{**OWNER, "kind": "SessionClass", "name": "default", "uid": "class-uid"}],
        },
        "spec": {
            "replicas": 3,
            "revisionHistoryLimit": 0,
            "selector": {"matchLabels": {"sessionmanager.dev/warm": "default"}},
            "template": {
                "metadata": {"labels": labels, "annotations": {PROBE: "/health", HASH: digest}},
                "spec": {
                    **POD,
                    "containers": [container],
                    "schedulingGates": [{"name": "sessionmanager.dev/refill"}],
                },
            },
        },
    }


RICH: dict[str, Any] = {
    "metadata": {"name": "rich", "uid": "class-uid"},
    "spec": {
        "image": "registry/agent:2",
        "command": ["agent", "--fast"],
        "port": 8000,
        "protocol": "adk",
        "resources": {"limits": {"memory": "1Gi", "ephemeral-storage": "2Gi"}},
        "env": [{"name": "MODEL", "value": "small"}],
        "envFrom": [{"secretRef": {"name": "provider-keys"}}],
        "imagePullSecrets": [{"name": "registry"}],
        "probe": {"path": "/ready", "startupTimeoutSeconds": 90, "timeoutSeconds": 2.5},
        "idleTimeoutSeconds": 30,
        "ttlSeconds": 3600,
        "turnTimeoutSeconds": 60,
        "gracePeriodSeconds": 1.5,
        "redelivery": "idempotent",
        "scaler": "native",
        "storage": {"size": "1Gi", "onExpire": "Delete", "onDelete": "Keep"},
        "runtimeClassName": "gvisor",
        "template": {
            "labels": {"team": "agents", "sessionmanager.dev/session": "not yours"},
            "annotations": {"note": "x"},
            "nodeSelector": {"pool": "agents"},
            "tolerations": [{"key": "agents", "operator": "Exists"}],
            "affinity": {"nodeAffinity": {}},
            "priorityClassName": "low",
        },
    },
}


def test_a_class_of_the_cluster_is_parsed_completely():
    assert parse_class(RICH, idle_timeout=120, ttl=86_400) == ClassSpec(
        base=SessionClass(
            name="rich",
            command=("agent", "--fast"),
            image="registry/agent:2",
            port=8000,
            protocol=PodProtocol.ADK,
            probe=Probe("/ready", startup_timeout=90, timeout=2.5),
            idle_timeout=30,
            ttl=3600,
            turn_timeout=60,
            grace_period=1.5,
            redelivery=Redelivery.IDEMPOTENT,
        ),
        env=({"name": "MODEL", "value": "small"},),
        env_from=({"secretRef": {"name": "provider-keys"}},),
        resources={"limits": {"memory": "1Gi", "ephemeral-storage": "2Gi"}},
        scaler="native",
        storage=Storage("1Gi", on_expire="Delete", on_delete="Keep"),
        runtime_class="gvisor",
        template=PodTemplate(
            labels={"team": "agents", "sessionmanager.dev/session": "not yours"},
            annotations={"note": "x"},
            node_selector={"pool": "agents"},
            tolerations=({"key": "agents", "operator": "Exists"},),
            affinity={"nodeAffinity": {}},
            priority_class="low",
        ),
        image_pull_secrets=("registry",),
        uid="class-uid",
    )


def test_the_pod_of_a_class_with_every_field():
    session = SessionSpec(UUID, "session-uid", parse_class(RICH, 120, 86_400))
    template = manifests.session_template(session)
    digest = manifests.spec_hash(template)
    assert template == {
        "metadata": {
            "labels": {"team": "agents", **LABELS, "sessionmanager.dev/class": "rich"},
            "annotations": {"note": "x", PROBE: "/ready", HASH: digest},
        },
        "spec": {
            **POD,
            "terminationGracePeriodSeconds": 2,
            "securityContext": {**POD["securityContext"], "fsGroup": 65532, "fsGroupChangePolicy": "OnRootMismatch"},
            "containers": [
                {
                    **CONTAINER,
                    "image": "registry/agent:2",
                    "command": ["agent", "--fast"],
                    "env": [
                        {"name": "MODEL", "value": "small"},
                        {"name": "PORT", "value": "8000"},
                        *CONTAINER["env"][1:],
                    ],
                    "envFrom": [{"secretRef": {"name": "provider-keys"}}],
                    "ports": [{"name": "http", "containerPort": 8000}],
                    "resources": {
                        "requests": CONTAINER["resources"]["requests"],
                        "limits": {"cpu": "1", "memory": "1Gi", "ephemeral-storage": "2Gi"},
                    },
                    "terminationMessagePolicy": "FallbackToLogsOnError",
                    "readinessProbe": {
                        "httpGet": {"path": "/ready", "port": "http"},
                        "periodSeconds": 5,
                        "timeoutSeconds": 3,
                    },
                }
            ],
            "volumes": [
                {"name": "tmp", "emptyDir": {"sizeLimit": "2Gi"}},
                {"name": "home", "persistentVolumeClaim": {"claimName": NAME}},
            ],
            "runtimeClassName": "gvisor",
            "nodeSelector": {"pool": "agents"},
            "tolerations": [{"key": "agents", "operator": "Exists"}],
            "affinity": {"nodeAffinity": {}},
            "priorityClassName": "low",
            "imagePullSecrets": [{"name": "registry"}],
        },
    }


def test_the_hash_depends_on_the_template_only():
    def digest(class_spec: ClassSpec, uid: str = "session-uid") -> str:
        return manifests.spec_hash(manifests.session_template(SessionSpec(UUID, uid, class_spec)))

    idle = ClassSpec(SessionClass("default", image="registry/echo:1", idle_timeout=5))
    newer = ClassSpec(SessionClass("default", image="registry/echo:2"))
    assert digest(PLAIN) == digest(idle) == digest(PLAIN, "another-uid")
    assert digest(PLAIN) != digest(newer)


def test_the_cluster_chooses_the_user_of_pods():
    classes = ClusterClasses.from_settings(Settings.from_environment(user_pod_image="x", pod_users_assigned="true"))
    classes.listed.set()
    for spec in (classes.parse(RICH), classes.spec("default")):
        security = manifests.session_template(SessionSpec(UUID, "uid", spec))["spec"]["securityContext"]
        assert security.pop("fsGroupChangePolicy", "OnRootMismatch") == "OnRootMismatch"
        assert security == {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}}
