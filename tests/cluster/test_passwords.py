"""Passwords of any characters and their change, users that the cluster chose, and a drain with one front door."""

from __future__ import annotations

import asyncio
import base64
import json
from pathlib import Path
from typing import Any

import pytest
import redis

from session_manager.client import Client, ClientError
from tests.chart.helm import written
from tests.cluster.release import CHART, address, helm, key, needs_release, rolled_out, sessions_of, values_for
from tests.cluster.volumes import volumes
from tests.cluster.world import kubectl
from tests.waiting import until

pytestmark = needs_release

NASTY = """ p@ss'w"o/r\\d %41 #$(HOME) ${x} `id` ü€😀 *&!|> a:b, """
OTHER = """'; DROP TABLE x; -- \\' %s $1 ]]> {{ .Values }} """
# As OpenShift does: a user without a name in the image, of the group root.
ANY_USER = {"runAsUser": 1000670000, "runAsGroup": 0, "fsGroup": 1000670000}


async def chats(namespace: str) -> None:
    client = Client(address(namespace), key=key(namespace))

    async def created() -> str:
        """Create a session; until every front door has the new password, some answer 503."""
        try:
            return str((await asyncio.to_thread(client.create, "ada"))["uuid"])
        except ClientError as error:
            print(error)
            return ""

    session = await until(created, 60)
    answer = await asyncio.to_thread(client.chat, session, "one", wait=90)
    assert answer["pod_response"] == {"reply": "You said: one"}


def install(word: str, namespace: str, file: Path, **values: Any) -> None:
    file.write_text(written(values), "utf-8")
    helm(word, "session-manager", str(CHART), "--namespace", namespace, "--values", str(file))
    rolled_out(namespace)


def from_values(namespace: str, password: str) -> dict[str, Any]:
    found = values_for(namespace, openshift=True, pods={"podSecurityContext": ANY_USER}, scaler="keda")
    for each in ("redis", "postgresql"):
        found[each]["password"] = password
    return found


def from_secrets(namespace: str, password: str) -> dict[str, Any]:
    found = values_for(namespace, openshift=True, pods={"podSecurityContext": ANY_USER}, frontDoor={"replicas": 1})
    for each, key_name in (("redis", "redis-password"), ("postgresql", "postgres-password")):
        kubectl("-n", namespace, "create", "secret", "generic", each, f"--from-literal={key_name}={password}")
        found[each]["existingSecret"] = each
    return found


def keda_reads_redis(namespace: str) -> None:
    """Log in with the Secret of the TriggerAuthentication. KEDA itself runs outside of localkube's network."""
    words = ["-n", sessions_of(namespace), "get", "secret", "session-manager-redis-keda", "-o", "json"]
    data = {name: base64.b64decode(value).decode() for name, value in json.loads(kubectl(*words))["data"].items()}
    host = kubectl("-n", namespace, "get", "service", "session-manager-redis", "-o", "jsonpath={.spec.clusterIP}")
    with redis.Redis(host, username=data["keda-username"], password=data["keda-password"]) as client:
        assert client.llen("session:x:awake") == 0
        with pytest.raises(redis.exceptions.NoPermissionError):
            client.keys()


async def drained(namespace: str) -> None:
    """Evict the only front door, as a drain of its node does."""
    words = ["-n", namespace, "get", "pods", "-l", "app=session-manager", "--field-selector=status.phase=Running"]
    path = "jsonpath={.items[*].metadata.name}"

    async def alone() -> str:
        names = (await asyncio.to_thread(kubectl, *words, "-o", path)).split()
        return names[0] if len(names) == 1 else ""

    pod = await until(alone, 60)
    eviction = {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": pod, "namespace": namespace}}
    url = f"/api/v1/namespaces/{namespace}/pods/{pod}/eviction"
    await asyncio.to_thread(kubectl, "create", "--raw", url, "-f", "-", stdin=json.dumps(eviction))
    await until(lambda: asyncio.to_thread(gone, namespace, pod), 120)
    await asyncio.to_thread(rolled_out, namespace)


def gone(namespace: str, pod: str) -> bool:
    return not kubectl("-n", namespace, "get", "pod", pod, "--ignore-not-found", "-o", "name")


async def test_passwords_of_any_characters_and_their_change(namespace: str, tmp_path: Path):
    with volumes(tmp_path, f"volume-{namespace}", 2):
        file = tmp_path / "values.json"
        given = from_values(namespace, NASTY)
        await asyncio.to_thread(install, "install", namespace, file, **given)
        await chats(namespace)
        if "scaledobjects" in kubectl("api-resources", "--api-group=keda.sh", "-o", "name", check=False):
            await asyncio.to_thread(keda_reads_redis, namespace)
        await asyncio.to_thread(install, "upgrade", namespace, file, **from_values(namespace, OTHER))
        await chats(namespace)
        await asyncio.to_thread(install, "upgrade", namespace, file, **from_secrets(namespace, NASTY[::-1]))
        await chats(namespace)
        await drained(namespace)
        await chats(namespace)
        await asyncio.to_thread(helm, "test", "session-manager", "--namespace", namespace, "--timeout", "150s")
        await asyncio.to_thread(helm, "uninstall", "session-manager", "--namespace", namespace)
