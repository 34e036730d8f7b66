"""The manifests of a session's children: typed spec in, manifest out. No I/O.

``replicas`` is never applied, because it belongs to a field manager of its own.  That one creates ``new_deployment``
with no replicas; ``deployment`` is applied when the Deployment has to change.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass

from session_manager.domain.values import Json
from session_manager.runtime.kubernetes import names
from session_manager.runtime.kubernetes.resources import SessionSpec
from session_manager.runtime.kubernetes.session_class import ClassSpec, Storage
from session_operator import requirements

PROBE_PERIOD = 5  # seconds; of the kubelet, beside our own probe that a wake waits for


@dataclass(frozen=True, slots=True)
class RedisTrigger:
    """The address at which KEDA reaches Redis."""

    address: str
    tls: bool = False
    database: int = 0


def owner_reference(kind: str, name: str, uid: str) -> Json:
    """Refer to the object that children belong to: they are deleted with it."""
    return {
        "apiVersion": names.API_VERSION,
        "kind": kind,
        "name": name,
        "uid": uid,
        "controller": True,
        "blockOwnerDeletion": False,
    }


def owned_by(session: SessionSpec) -> Json:
    return owner_reference(names.SESSION_KIND, session.uuid, session.uid)


# -- pods ------------------------------------------------------------------------------------------------------------


def session_template(session: SessionSpec) -> Json:
    """Return the pod template of one session."""
    class_spec = session.class_spec
    identity = [{"name": "SESSION_ID", "value": session.uuid}]
    claim = names.child_name(session.uuid) if class_spec.storage else None
    return _template(class_spec, session.labels, identity, claim)


def warm_template(class_spec: ClassSpec) -> Json:
    """Return the template of a warm pod. It has no session yet, and its gate keeps it from starting at once."""
    template = _template(class_spec, names.warm_labels(class_spec.name), [], None)
    template["spec"]["schedulingGates"] = [{"name": names.REFILL_GATE}]
    return template


def _template(class_spec: ClassSpec, labels: Mapping[str, str], identity: list[Json], claim: str | None) -> Json:
    annotations = {**class_spec.template.annotations, names.PROBE_ANNOTATION: class_spec.base.probe.path}
    template: Json = {
        "metadata": {"labels": {**class_spec.template.labels, **labels}, "annotations": annotations},
        "spec": _pod_spec(class_spec, identity, claim),
    }
    canonical = json.dumps(template, sort_keys=True, separators=(",", ":"))
    digest = hashlib.sha256(canonical.encode()).hexdigest()[:16]
    annotations[names.SPEC_HASH_ANNOTATION] = digest
    return template


def spec_hash(template: Json) -> str:
    """Return the hash by which pods of this template are recognised."""
    found: str = template["metadata"]["annotations"][names.SPEC_HASH_ANNOTATION]
    return found


def _pod_spec(class_spec: ClassSpec, identity: list[Json], claim: str | None) -> Json:
    container = _container(class_spec, identity)
    # All that a pod writes counts against this limit, so neither volume needs one of its own size.
    scratch = {"emptyDir": {"sizeLimit": container["resources"]["limits"][requirements.DISK]}}
    home = scratch if claim is None else {"persistentVolumeClaim": {"claimName": claim}}
    spec: Json = {
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "terminationGracePeriodSeconds": math.ceil(class_spec.base.grace_period),
        "securityContext": _pod_security(class_spec.user, shared_volume=claim is not None),
        "containers": [container],
        "volumes": [{"name": names.TMP_VOLUME, **scratch}, {"name": names.HOME_VOLUME, **home}],
    }
    template = class_spec.template
    optional = {
        "runtimeClassName": class_spec.runtime_class,
        "nodeSelector": dict(template.node_selector),
        "tolerations": list(template.tolerations),
        "affinity": template.affinity,
        "priorityClassName": template.priority_class,
        "imagePullSecrets": [{"name": name} for name in class_spec.image_pull_secrets],
    }
    return spec | {key: value for key, value in optional.items() if value}


def _pod_security(user: int | None, *, shared_volume: bool) -> Json:
    """Meet the Pod Security level ``restricted``, whatever user the image names. None: the cluster chooses the user."""
    security: Json = {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}}
    if user is not None:
        security |= {"runAsUser": user, "runAsGroup": user}
    if shared_volume:
        security |= {"fsGroupChangePolicy": "OnRootMismatch"} | ({} if user is None else {"fsGroup": user})
    return security


def _container(class_spec: ClassSpec, identity: list[Json]) -> Json:
    base = class_spec.base
    ours = [
        {"name": "PORT", "value": str(base.port)},
        {"name": "HOME", "value": names.HOME},
        {"name": "TMPDIR", "value": "/tmp"},  # noqa: S108 - an emptyDir of the pod alone
        *identity,
    ]
    container: Json = {
        "name": names.CONTAINER,
        "image": base.image,
        "env": [*class_spec.env, *ours],
        "ports": [{"name": names.PORT_NAME, "containerPort": base.port}],
        "resources": requirements.complete(class_spec.resources),
        # So that the status of a pod that died has the last lines that it printed.
        "terminationMessagePolicy": "FallbackToLogsOnError",
        "readinessProbe": {
            "httpGet": {"path": base.probe.path, "port": names.PORT_NAME},
            "periodSeconds": PROBE_PERIOD,
            "timeoutSeconds": max(1, math.ceil(base.probe.timeout)),
        },
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        },
        "volumeMounts": [
            {"name": names.TMP_VOLUME, "mountPath": "/tmp"},  # noqa: S108 - the mount of that emptyDir
            {"name": names.HOME_VOLUME, "mountPath": names.HOME},
        ],
    }
    if base.command:
        container["command"] = list(base.command)
    if class_spec.env_from:
        container["envFrom"] = list(class_spec.env_from)
    return container


# -- children of a session -------------------------------------------------------------------------------------------


def deployment(session: SessionSpec) -> Json:
    """Return the Deployment to apply: everything except ``replicas``."""
    template = session_template(session)
    manifest = _child("apps/v1", "Deployment", session)
    manifest["metadata"]["annotations"] = {names.SPEC_HASH_ANNOTATION: spec_hash(template)}
    manifest["spec"] = {
        "paused": False,
        "revisionHistoryLimit": 0,
        "strategy": {"type": "Recreate"},
        "selector": {"matchLabels": {names.SESSION_LABEL: session.uuid}},
        "template": template,
    }
    return manifest


def new_deployment(session: SessionSpec) -> Json:
    """Return the Deployment to create: with no replicas, so that it makes no pod before a wake."""
    manifest = deployment(session)
    manifest["spec"]["replicas"] = 0
    return manifest


def service(session: SessionSpec) -> Json:
    """Return a headless Service: a name for other programs. The front door connects to the pod's own address."""
    manifest = _child("v1", "Service", session)
    manifest["spec"] = {
        "clusterIP": "None",
        "selector": {names.SESSION_LABEL: session.uuid},
        "ports": [{"name": names.PORT_NAME, "port": session.class_spec.base.port, "targetPort": names.PORT_NAME}],
    }
    return manifest


def scaled_object(session: SessionSpec, redis: RedisTrigger) -> Json:
    """Return a ScaledObject that scales 0 to 1 for external pushes. Only the sleep fence scales 1 to 0."""
    manifest = _child(names.KEDA_API_VERSION, "ScaledObject", session)
    pause = names.KEDA_PAUSED if session.suspended else names.KEDA_PAUSED_SCALE_IN
    manifest["metadata"]["annotations"] = {pause: "true"}
    trigger: Json = {
        "type": "redis",
        "metadata": {
            "address": redis.address,
            "listName": names.awake_list(session.uuid),
            "listLength": "1",
            "activationListLength": "0",
            "databaseIndex": str(redis.database),
            "enableTLS": "true" if redis.tls else "false",
        },
        "authenticationRef": {"name": names.KEDA_AUTHENTICATION},
    }
    manifest["spec"] = {
        "scaleTargetRef": {"name": names.child_name(session.uuid)},
        "minReplicaCount": 0,
        "maxReplicaCount": 1,
        "triggers": [trigger],
    }
    return manifest


def volume_claim(session: SessionSpec, storage: Storage) -> Json:
    """Return a claim without an owner: the class decides whether expiry and delete remove it."""
    manifest = _child("v1", "PersistentVolumeClaim", session)
    del manifest["metadata"]["ownerReferences"]
    manifest["metadata"]["annotations"] = {
        names.ON_EXPIRE_ANNOTATION: storage.on_expire,
        names.ON_DELETE_ANNOTATION: storage.on_delete,
    }
    manifest["spec"] = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": storage.size}}}
    if storage.storage_class is not None:
        manifest["spec"]["storageClassName"] = storage.storage_class
    return manifest


def _child(api_version: str, kind: str, session: SessionSpec) -> Json:
    return {
        "apiVersion": api_version,
        "kind": kind,
        "metadata": {
            "name": names.child_name(session.uuid),
            "labels": session.labels,
            "ownerReferences": [owned_by(session)],
        },
    }


# -- warm pods -------------------------------------------------------------------------------------------------------


def warm_deployment(class_spec: ClassSpec) -> Json:
    """Return the pool of warm pods of a class. Its replicas are applied, because nothing else scales it."""
    template = warm_template(class_spec)
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {
            "name": names.warm_name(class_spec.name),
            "labels": names.warm_labels(class_spec.name),
            "annotations": {names.SPEC_HASH_ANNOTATION: spec_hash(template)},
            "ownerReferences": [owner_reference(names.CLASS_KIND, class_spec.name, class_spec.uid)],
        },
        "spec": {
            "replicas": class_spec.warm,
            "revisionHistoryLimit": 0,
            "selector": {"matchLabels": {names.WARM_LABEL: class_spec.name}},
            "template": template,
        },
    }
