"""The chart and the manifests on a real cluster: install, the whole life of a session, and upgrades under load."""

from __future__ import annotations

import asyncio
import base64
import itertools
import json
import os
import re
from collections import Counter
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from session_manager.client import Client, ClientError
from session_manager.runtime.kubernetes import names
from tests.cluster.release import (
    CHART,
    PRODUCT,
    ROOT,
    SERVERS,
    address,
    first,
    helm,
    key,
    needs_release,
    rolled_out,
    sessions_of,
    values_for,
)
from tests.cluster.volumes import volumes
from tests.cluster.world import IMAGE, kubectl
from tests.waiting import until

PER_SECOND = 20
SESSIONS = 8

pytestmark = needs_release


def whole_life(client: Client, namespace: str) -> None:
    """Create a session, chat, sleep, wake it by a message, delete it: over REST, with real pods in ``namespace``."""
    session = first(client)
    assert client.chat(session, "one", wait=90)["pod_response"] == {"reply": "You said: one"}
    words = ["-n", namespace, "get", "session", session, "-o", "jsonpath={.status.phase}"]
    assert kubectl(*words) == "Awake"
    assert client.get(session)["ready_replicas"] == 1
    client.sleep(session)
    assert client.get(session)["status"] == "sleeping"
    assert client.chat(session, "two", wait=90)["pod_response"] == {"reply": "You said: two"}
    client.logs(session)  # must not fail; this agent prints nothing
    client.delete(session)
    with pytest.raises(ClientError, match="such"):
        client.get(session)


LOOK_AROUND = """
import json, os, socket, ssl, urllib.error, urllib.request
seen = {"uid": os.getuid(), "token": os.path.exists("/var/run/secrets"), "env": sorted(os.environ.values())}
with socket.create_connection((os.environ["REDIS"], 6379), 5) as redis:
    redis.sendall(b"KEYS *\\r\\n")
    seen["redis"] = redis.recv(100).decode()
try:
    context = ssl._create_unverified_context()
    urllib.request.urlopen("https://kubernetes.default.svc/api/v1/secrets", timeout=5, context=context)
except urllib.error.HTTPError as error:
    seen["api"] = error.code
print(json.dumps(seen))
"""


def confined(namespace: str, client: Client) -> None:
    """Check from inside a session's pod that Redis and the API reject it, even without NetworkPolicies."""
    session = client.create("eve")["uuid"]
    client.chat(session, "wake up", wait=90)
    selector = f"{names.SESSION_LABEL}={session}"
    where = ["-n", sessions_of(namespace)]
    [pod] = kubectl(*where, "get", "pods", "-l", selector, "-o", "name").split()
    redis = f"REDIS=session-manager-redis.{namespace}.svc"
    seen = json.loads(kubectl(*where, "exec", pod, "--", "env", redis, "python3", "-c", LOOK_AROUND))
    secrets = json.loads(kubectl("-n", namespace, "get", "secrets", "-o", "json"))["items"]
    values = [base64.b64decode(value).decode() for secret in secrets for value in secret.get("data", {}).values()]
    passwords = [value for value in values if len(value) >= 20]
    assert passwords
    assert not [word for word in passwords if any(word in variable for variable in seen["env"])]
    assert (seen["uid"] != 0, seen["token"]) == (True, False)
    assert seen["redis"].startswith("-NOAUTH")
    assert seen["api"] in {401, 403}
    client.delete(session)


async def nothing_left(namespace: str) -> None:
    """Wait until the pods of deleted sessions are gone."""

    async def gone() -> bool:
        words = [
            "-n",
            namespace,
            "get",
            "sessions,deployments,services",
            "-l",
            "sessionmanager.dev/session",
            "-o",
            "name",
        ]
        return not await asyncio.to_thread(kubectl, *words)

    await until(gone, 60)


class Traffic:
    """Send ``PER_SECOND`` messages per second over kept connections to awake sessions."""

    def __init__(self, base: str, secret: str, sessions: list[str]) -> None:
        self._base = base
        self._headers = {"Authorization": f"Bearer {secret}", "Prefer": "wait=30"}
        self._sessions = itertools.cycle(sessions)
        self._ending = asyncio.Event()
        self.answers: Counter[str] = Counter()
        self.failures: list[str] = []

    async def run(self) -> None:
        timeout = aiohttp.ClientTimeout(total=60)
        session = aiohttp.ClientSession(self._base, headers=self._headers, timeout=timeout)
        async with session as client, asyncio.TaskGroup() as sending:
            while not self._ending.is_set():
                sending.create_task(self._send(client, next(self._sessions)))
                await asyncio.sleep(1 / PER_SECOND)

    async def _send(self, client: aiohttp.ClientSession, session: str) -> None:
        try:
            async with client.post(f"/session/{session}/chat", json={"message": "hello"}) as response:
                body = await response.text()
                answer = f"{response.status} {json.loads(body).get('status')}"
        except (aiohttp.ClientError, TimeoutError) as error:
            answer = body = repr(error)
        self.answers[answer] += 1
        if answer not in {"200 processed", "202 queued", "202 running"}:
            self.failures.append(f"{answer}: {body}")

    def end(self) -> None:
        self._ending.set()


async def test_helm_install_life_and_upgrades_under_load(namespace: str, tmp_path: Path):
    values = values_for(namespace, frontDoor={"env": {"RATE_LIMIT_CHAT": "off"}})
    file = tmp_path / "values.json"
    file.write_text(json.dumps(values))
    release = ["session-manager", str(CHART), "--namespace", namespace, "--values", str(file)]
    with volumes(tmp_path, f"volume-{namespace}", 2):
        await asyncio.to_thread(helm, "install", *release)
        await asyncio.to_thread(rolled_out, namespace)
        await asyncio.to_thread(helm, "test", "session-manager", "--namespace", namespace, "--timeout", "150s")
        client = Client(address(namespace), key=key(namespace))
        await asyncio.to_thread(whole_life, client, sessions_of(namespace))
        await asyncio.to_thread(confined, namespace, client)
        sessions = [(await asyncio.to_thread(client.create, f"user-{n}"))["uuid"] for n in range(SESSIONS)]
        for session in sessions:
            await asyncio.to_thread(client.chat, session, "wake up", wait=90)
        pods = await asyncio.to_thread(session_pods, sessions_of(namespace))
        traffic = Traffic(address(namespace), key(namespace), sessions)
        sending = asyncio.create_task(traffic.run())
        try:
            await asyncio.to_thread(
                helm, "upgrade", *release, "--set", "frontDoor.logLevel=DEBUG,operator.logLevel=DEBUG"
            )
            await asyncio.to_thread(rolled_out, namespace)
            await asyncio.to_thread(helm, "rollback", "session-manager", "1", "--namespace", namespace)
            await asyncio.to_thread(rolled_out, namespace)
            await asyncio.to_thread(kubectl, "-n", namespace, "rollout", "restart", "deployment/session-manager")
            await asyncio.to_thread(rolled_out, namespace)
        finally:
            traffic.end()
            await sending
        print(f"\nupgrade, rollback and restart at {PER_SECOND} messages/s: {dict(traffic.answers)}")
        assert not traffic.failures, "\n".join(traffic.failures[:20])
        assert await asyncio.to_thread(session_pods, sessions_of(namespace)) == pods
        for session in sessions:
            await asyncio.to_thread(client.delete, session)
        await nothing_left(sessions_of(namespace))
        await asyncio.to_thread(helm, "uninstall", "session-manager", "--namespace", namespace)


def session_pods(namespace: str) -> set[str]:
    return set(kubectl("-n", namespace, "get", "pods", "-l", names.SESSION_LABEL, "-o", "name").split())


async def test_kubectl_apply_of_the_manifests(definitions: None, tmp_path: Path):
    """Install as the README says, into the namespace default."""
    if "LOCALKUBE" not in os.environ:
        pytest.skip("the namespace default of a cluster that others use is theirs")
    folder = tmp_path / "k8s-manifests"
    (folder / "base").mkdir(parents=True)
    images = {
        r"session-manager:\d[\w.-]*": PRODUCT,
        r"session-agent:\d[\w.-]*": IMAGE,
        r"redis:\d[\w.-]*": SERVERS,
        r"postgres:\d[\w.-]*": SERVERS,
    }
    for file in (ROOT / "k8s-manifests").rglob("*.yaml"):
        text = file.read_text()
        for name, image in images.items():
            text = re.sub(rf"(?<![\w/-]){name}", image, text)
        (folder / file.relative_to(ROOT / "k8s-manifests")).write_text(text)
    secrets: dict[str, Any] = {
        "redis-credentials": {"redis-password": "r" * 40, "keda-username": "keda", "keda-password": "k" * 40},
        "postgres-credentials": {"postgres-password": "p" * 40},
        "session-manager-key": {"key": "s" * 40, "session-api-keys": f"service:{'s' * 40}"},
    }
    with volumes(tmp_path, "", 2):
        try:
            for name, words in secrets.items():
                literals = [f"--from-literal={key}={value}" for key, value in words.items()]
                kubectl("create", "secret", "generic", name, *literals)
            kubectl("apply", "-R", "-f", str(folder))
            await asyncio.to_thread(rolled_out, "default")
            client = Client(address("default"), key="s" * 40)
            await asyncio.to_thread(whole_life, client, "sessions")
            await nothing_left("sessions")
            kept = await asyncio.to_thread(client.create, "ada")
            await asyncio.to_thread(client.chat, kept["uuid"], "stay", wait=90)
            kubectl("delete", "--wait=false", "-f", str(folder))
            # The Session, its pod and the walls of the pod outlive the service.
            assert kubectl("-n", "sessions", "get", "sessions", "-o", "name").split()
            assert await asyncio.to_thread(session_pods, "sessions")
            kubectl("-n", "sessions", "get", "networkpolicy", "session-pods")
        finally:
            kubectl("delete", "--ignore-not-found", "--wait=false", "-f", str(folder), check=False)
            kubectl("delete", "namespace", "sessions", "--wait=false", "--ignore-not-found", check=False)
            kubectl("delete", "pvc", "--all", "--wait=false", check=False)
            kubectl("delete", "secret", *secrets, check=False)
