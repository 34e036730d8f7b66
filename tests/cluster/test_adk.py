"""An ADK agent as the pod of a session: the front door keeps its history and state across sleep."""

from __future__ import annotations

import asyncio
import json
import os
from pathlib import Path
from typing import Any

import requests

from session_manager.client import Client
from session_manager.runtime.kubernetes import names
from tests.cluster.release import CHART, address, first, helm, key, needs_release, rolled_out, sessions_of, values_for
from tests.cluster.volumes import volumes
from tests.cluster.world import kubectl

AGENT = os.environ.get("CLUSTER_TEST_ADK_IMAGE", "localhost/adk-agent:test")

pytestmark = needs_release

NOTEBOOK = {
    "apiVersion": names.API_VERSION,
    "kind": names.CLASS_KIND,
    "metadata": {"name": "notebook"},
    "spec": {"image": AGENT, "protocol": "adk", "gracePeriodSeconds": 1},
}


def stored(namespace: str, session: str) -> Any:
    """Return the session as clients of ADK see it."""
    url = f"{address(namespace)}/adk/apps/notebook/users/ada/sessions/{session}"
    answer = requests.get(url, headers={"Authorization": f"Bearer {key(namespace)}"}, timeout=30)
    assert answer.status_code == 200, answer.text
    return answer.json()


def talk(client: Client, namespace: str) -> None:
    first_session = client.create("ada", "notebook")["uuid"]
    assert client.chat(first_session, "note milk", wait=120)["pod_response"]["reply"] == "Noted, as number 1."
    assert [event["author"] for event in stored(namespace, first_session)["events"]] == ["user", "notebook"]
    client.sleep(first_session)
    assert client.chat(first_session, "note bread", wait=120)["pod_response"]["reply"] == "Noted, as number 2."
    second = client.create("ada", "notebook")["uuid"]
    assert client.chat(second, "what is there?", wait=120)["pod_response"]["reply"] == "1. milk\n2. bread\n"
    assert stored(namespace, second)["state"] == {"user:notes": ["milk", "bread"]}
    assert len(stored(namespace, first_session)["events"]) == 4


async def test_a_notebook(namespace: str, tmp_path: Path):
    volume = f"volume-{namespace}"
    one = {"replicas": 1, "persistence": {"storageClassName": volume}}
    file = tmp_path / "values.json"
    file.write_text(json.dumps(values_for(namespace, postgresql={"enabled": False}, frontDoor=one)))
    with volumes(tmp_path, volume, 2):
        install = ["install", "session-manager", str(CHART), "--namespace", namespace, "--values", str(file)]
        await asyncio.to_thread(helm, *install)
        await asyncio.to_thread(rolled_out, namespace)
        kubectl("-n", sessions_of(namespace), "apply", "-f", "-", stdin=json.dumps(NOTEBOOK))
        client = Client(address(namespace), key=key(namespace))
        await asyncio.to_thread(first, client)
        await asyncio.to_thread(talk, client, namespace)
        await asyncio.to_thread(helm, "uninstall", "session-manager", "--namespace", namespace)
