"""Uninstalling while pods are awake: they keep their walls, others lose nothing, and a new installation goes on."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

from session_manager.client import Client
from session_manager.runtime.kubernetes import names
from tests.cluster.release import CHART, address, first, helm, key, needs_release, rolled_out, sessions_of, values_for
from tests.cluster.volumes import volumes
from tests.cluster.world import kubectl
from tests.waiting import until

pytestmark = needs_release

POLICIES = "validatingadmissionpolicies,validatingadmissionpolicybindings"
OTHERS: dict[str, Any] = {
    "apiVersion": "v1",
    "kind": "List",
    "items": [
        {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "not-ours"}},
        {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "not-ours"}},
        {
            "apiVersion": names.API_VERSION,
            "kind": names.CLASS_KIND,
            "metadata": {"name": "not-ours"},
            "spec": {"image": "x"},
        },
    ],
}


def awake_pods(sessions: str) -> list[str]:
    words = ["get", "pods", "-l", names.SESSION_LABEL, "--field-selector=status.phase=Running", "-o", "name"]
    return kubectl("-n", sessions, *words).split()


def walls(sessions: str) -> dict[str, str]:
    policy = json.loads(kubectl("-n", sessions, "get", "networkpolicy", "session-pods", "-o", "json"))
    level = kubectl(
        "get", "namespace", sessions, "-o", r"jsonpath={.metadata.labels.pod-security\.kubernetes\.io/enforce}"
    )
    return {"policy": json.dumps(policy["spec"], sort_keys=True), "level": level}


async def test_awake_pods_keep_their_walls_and_a_new_installation_goes_on(namespace: str, tmp_path: Path):
    sessions = sessions_of(namespace)
    file = tmp_path / "values.json"
    file.write_text(json.dumps(values_for(namespace)))
    install = ["install", "session-manager", str(CHART), "--namespace", namespace, "--values", str(file)]
    with volumes(tmp_path, f"volume-{namespace}", 2):
        await asyncio.to_thread(helm, *install)
        await asyncio.to_thread(rolled_out, namespace)
        client = Client(address(namespace), key=key(namespace))
        session = await asyncio.to_thread(first, client)
        await asyncio.to_thread(client.chat, session, "one", wait=90)
        for where in (namespace, sessions):
            items = [each for each in OTHERS["items"] if where == sessions or each["kind"] != names.CLASS_KIND]
            kubectl("-n", where, "create", "-f", "-", stdin=json.dumps({**OTHERS, "items": items}))
        before, pods = walls(sessions), awake_pods(sessions)
        assert (before["level"], len(pods)) == ("restricted", 1)
        assert f"session-manager-{namespace}-operator" in kubectl("get", POLICIES, "-o", "name")
        # The operator is broken, so nothing could end the pod first.
        kubectl("-n", namespace, "set", "image", "deployment/session-operator", "operator=localhost/none:1")
        await asyncio.to_thread(helm, "uninstall", "session-manager", "--namespace", namespace)

        async def service_is_gone() -> bool:
            found = kubectl("-n", namespace, "get", "deployments,statefulsets,networkpolicies", "-o", "name")
            return not found and namespace not in kubectl("get", POLICIES, "-o", "name")

        await until(service_is_gone, 60)
        assert awake_pods(sessions) == pods
        assert walls(sessions) == before
        for where in (namespace, sessions):
            kubectl("-n", where, "get", "configmap,secret", "not-ours")
        kubectl("-n", sessions, "get", "sessionclass", "not-ours")
        assert session in kubectl("-n", sessions, "get", "sessions", "-o", "name")

        await asyncio.to_thread(helm, *install)
        await asyncio.to_thread(rolled_out, namespace)
        client = Client(address(namespace), key=key(namespace))
        assert (await asyncio.to_thread(client.chat, session, "two", wait=90))["status"] == "processed"
        assert walls(sessions) == before
        await asyncio.to_thread(helm, "uninstall", "session-manager", "--namespace", namespace)
