"""Pods into which a mesh has put its own containers: an init container, a native sidecar and a proxy before ours."""

from __future__ import annotations

import asyncio
import base64
import json
import ssl
import subprocess
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from session_manager.runtime.kubernetes.cluster import ApiError
from tests.cluster.world import IMAGE, FrontDoorProcess, Json, World, kubectl
from tests.waiting import until

QUIET = {
    "image": IMAGE,
    "securityContext": {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}},
    "resources": {"requests": {"cpu": "1m", "memory": "16Mi"}},
}


def runs(name: str, program: str, **more: Any) -> Json:
    return {"name": name, "command": ["python3", "-c", program], **QUIET, **more}


STAYS = "import time; time.sleep(3600)"
PROXY = runs("istio-proxy", STAYS, ports=[{"name": "http-envoy-prom", "containerPort": 15090}])
SIDECAR = runs("logs", STAYS, restartPolicy="Always")
SETUP = runs("istio-init", "pass")
MESH: list[Json] = [
    {"op": "add", "path": "/spec/containers/0", "value": PROXY},
    {"op": "add", "path": "/spec/initContainers", "value": [SIDECAR, SETUP]},
]


class Mesh:
    """A mutating webhook that changes each new pod by ``patch``."""

    def __init__(self, folder: Path) -> None:
        self._key, self._certificate = folder / "key.pem", folder / "cert.pem"
        self._runner: web.AppRunner | None = None
        self.patch: list[Json] = MESH
        self.port = 0

    @property
    def authority(self) -> str:
        return base64.b64encode(self._certificate.read_bytes()).decode()

    async def start(self) -> None:
        words = ["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2"]
        names = ["-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1"]
        files = ["-keyout", str(self._key), "-out", str(self._certificate)]
        await asyncio.to_thread(subprocess.run, ["openssl", *words, *names, *files], check=True, capture_output=True)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self._certificate, self._key)
        app = web.Application()
        app.router.add_post("/", self._review)
        self._runner = web.AppRunner(app)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0, ssl_context=context).start()
        self.port = self._runner.addresses[0][1]

    async def close(self) -> None:
        if self._runner is not None:
            await self._runner.cleanup()

    async def _review(self, request: web.Request) -> web.Response:
        review = await request.json()
        patch = base64.b64encode(json.dumps(self.patch).encode()).decode()
        answer = {"uid": review["request"]["uid"], "allowed": True, "patchType": "JSONPatch", "patch": patch}
        kind = {"apiVersion": review["apiVersion"], "kind": review["kind"]}
        return web.json_response({**kind, "response": answer})


@pytest.fixture
async def mesh(world: World, tmp_path: Path) -> AsyncIterator[Mesh]:
    mesh = Mesh(tmp_path)
    await mesh.start()
    name = f"{world.namespace}.example.com"
    webhook = {
        "name": name,
        "clientConfig": {"url": f"https://127.0.0.1:{mesh.port}/", "caBundle": mesh.authority},
        "rules": [{"apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["pods"]}],
        "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": world.namespace}},
        "sideEffects": "None",
        "admissionReviewVersions": ["v1"],
    }
    body = {"metadata": {"name": name}, "webhooks": [webhook], "kind": "MutatingWebhookConfiguration"}
    api = "admissionregistration.k8s.io/v1"
    await asyncio.to_thread(kubectl, "create", "-f", "-", stdin=json.dumps({"apiVersion": api, **body}))

    async def works() -> bool:
        words = ("run", "probe", f"--image={IMAGE}", "--dry-run=server", "-o", "json")
        return "istio-proxy" in await asyncio.to_thread(kubectl, "-n", world.namespace, *words, check=False)

    await until(works, 30)
    yield mesh
    await asyncio.to_thread(kubectl, "delete", "mutatingwebhookconfiguration", name, "--ignore-not-found")
    await mesh.close()


async def test_a_pod_with_company_answers_and_its_output_is_that_of_the_agent(
    world: World, mesh: Mesh, door: FrontDoorProcess
):
    await world.make_class()
    session = await door.create()
    assert await door.chat(session, "hello") == {"reply": "You said: hello"}
    [pod] = await world.pods(session)
    assert [each["name"] for each in pod["spec"]["containers"]] == ["istio-proxy", "agent"]

    async def has_output() -> bool:
        """The API server refuses a request that names no container, and one for a container that it sees waiting."""
        with suppress(ApiError):
            await world.cluster.logs(pod["metadata"]["name"], 10)
            return True
        return False

    await until(has_output, 20)


async def test_a_proxy_that_restarts_does_not_end_the_pod(world: World, mesh: Mesh):
    mesh.patch = [
        {"op": "add", "path": "/spec/containers/0", "value": runs("istio-proxy", "import time; time.sleep(5)")}
    ]
    await world.make_class()
    session = await world.make_session()
    before = await world.awake(session)

    async def restarted() -> bool:
        [pod] = await world.pods(session)
        return any(each["restartCount"] for each in pod["status"]["containerStatuses"])

    await until(restarted, 60)
    assert await world.published(session) == before


async def test_an_init_container_that_fails_is_named(world: World, mesh: Mesh):
    mesh.patch = [{"op": "add", "path": "/spec/initContainers", "value": [runs("istio-init", "raise SystemExit(4)")]}]
    await world.make_class(probe={"startupTimeoutSeconds": 20})
    session = await world.make_session()
    await world.wake(session)

    async def told() -> bool:
        conditions = (await world.status(session)).get("conditions", [{}, {}])
        return conditions[1].get("reason") == "SidecarFailed"

    await until(told, 20)
    failure = await world.failure(session)
    assert failure.reason == "SidecarFailed"
    assert "container istio-init: the container ended with exit code 4" in failure.remedy
