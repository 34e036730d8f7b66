"""The product under test: front door, operator and Redis as processes outside the cluster, for one namespace."""

from __future__ import annotations

import asyncio
import os
import secrets
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import psutil

from benchmarks.cluster.kubectl import config_of, create, namespace, serves_keda
from benchmarks.front import LIMITS, SERVE, Front
from benchmarks.processes import Process, free_port
from session_manager.activity.server import LocalRedis
from session_manager.runtime.kubernetes import names
from session_manager.runtime.kubernetes.cluster import (
    DEPLOYMENTS,
    PODS,
    SCALED_OBJECTS,
    SERVICES,
    SESSIONS,
    ApiNotFound,
    Cluster,
    Resource,
)

Json = dict[str, Any]

IMAGE = os.environ.get("CLUSTER_TEST_IMAGE", "localhost/session-agent:test")
SMALL = {"requests": {"cpu": "1m", "memory": "16Mi"}}
LOOK_EVERY = 0.02  # seconds, outside the measurements
SETTLES_WITHIN = 1200.0
HOUR = 3600
OPERATE = [sys.executable, "-m", "session_operator"]


async def until(condition: Callable[[], Awaitable[Any]], every: float = LOOK_EVERY) -> None:
    """Wait until it is true. Raises TimeoutError after SETTLES_WITHIN seconds."""
    async with asyncio.timeout(SETTLES_WITHIN):
        while not await condition():
            await asyncio.sleep(every)


class CountingCluster(Cluster):
    async def count(self, resource: Resource) -> int:
        """Return the number of objects in the namespace, with one cheap request."""
        page = await self._json("GET", self._path(resource), {"limit": "1"})
        return len(page["items"]) + int(page["metadata"].get("remainingItemCount", 0))

    async def exists(self, resource: Resource, name: str) -> bool:
        try:
            await self.get(resource, name)
        except ApiNotFound:
            return False
        return True


def kinds_of(scaler: str) -> tuple[Resource, ...]:
    """Return the kinds of a session's children with this scaler."""
    return (DEPLOYMENTS, SERVICES, SCALED_OBJECTS) if scaler == "keda" else (DEPLOYMENTS, SERVICES)


@dataclass(frozen=True, slots=True)
class Product:
    """``cluster``: the benchmark's own client for the namespace."""

    front: Front
    operator: Process
    cluster: CountingCluster

    async def make_class(self, name: str, **spec: Any) -> None:
        """Create a class whose sessions sleep only on request. Returns when front door and operator know it."""
        body = {
            "apiVersion": names.API_VERSION,
            "kind": names.CLASS_KIND,
            "metadata": {"name": name},
            "spec": {"image": IMAGE, "gracePeriodSeconds": 1, "idleTimeoutSeconds": HOUR, "resources": SMALL, **spec},
        }
        await asyncio.to_thread(create, self.cluster.namespace, body)
        probe: list[str] = []

        async def known() -> bool:
            status, found = await self.front.call("POST", "/session/create", {"user_id": "ada", "class": name})
            probe.extend([found["uuid"]] if status == 201 else [])
            return status == 201

        await until(known, 0.2)
        children = [(kind, names.child_name(probe[0])) for kind in kinds_of(spec.get("scaler", "native"))]
        await until(lambda: self._all_exist(children))
        await self.delete(probe[0])
        await until(lambda: self._none_exists([(SESSIONS, probe[0]), *children]))

    async def _all_exist(self, objects: list[tuple[Resource, str]]) -> bool:
        return all([await self.cluster.exists(*each) for each in objects])

    async def _none_exists(self, objects: list[tuple[Resource, str]]) -> bool:
        return not any([await self.cluster.exists(*each) for each in objects])

    async def create(self, class_name: str) -> str:
        found = await self.front.expect(201, "POST", "/session/create", {"user_id": "ada", "class": class_name})
        return str(found["uuid"])

    async def chat(self, session: str) -> None:
        """Send a message and wait for the reply of the pod."""
        body = {"message": "hello"}
        found = await self.front.expect(200, "POST", f"/session/{session}/chat", body, Prefer="wait=120")
        if found["status"] != "processed":
            raise RuntimeError(f"a message ended {found['status']}: {found.get('error')}")

    async def sleep(self, session: str) -> None:
        async def asleep() -> bool:
            status, _ = await self.front.call("POST", f"/session/{session}/sleep")
            return status == 200  # 503 for one lease period after Redis started empty

        await until(asleep, 0.1)

    async def put_to_sleep(self, session: str) -> None:
        """Put a session to sleep and wait until its pod is gone, so that the next wake does not compete with it."""
        await self.sleep(session)
        await until(lambda: self._has_no_pods(session))

    async def delete(self, session: str) -> None:
        await self.front.expect(200, "DELETE", f"/session/{session}")

    async def _has_no_pods(self, session: str) -> bool:
        pods, _ = await self.cluster.list(PODS, f"{names.SESSION_LABEL}={session}")
        return not pods

    async def count_is(self, resource: Resource, number: int) -> bool:
        return await self.cluster.count(resource) == number


@asynccontextmanager
async def product(folder: Path, name: str = "", *, until_gone: bool = True) -> AsyncIterator[Product]:
    """Run both programs for a separate namespace. ``name`` sets its name, for callers that need it in advance."""
    name = name or f"bench-{secrets.token_hex(3)}"
    folder = folder / name
    folder.mkdir()
    async with AsyncExitStack() as stack:
        stack.enter_context(namespace(name, until_gone=until_gone))
        redis = LocalRedis(folder / "redis")
        await redis.start()
        stack.push_async_callback(redis.stop)
        if serves_keda():
            _let_keda_read(name, redis.password)
        common = {"REDIS_URL": redis.url, "SESSIONS_NAMESPACE": name, "LOG_FORMAT": "json"}
        operator = await _operator(stack, folder, {**common, "KUBECONFIG": _config("operator", name, folder)})
        front = await _front(stack, folder, {**common, "KUBECONFIG": _config("front-door", name, folder)}, redis)
        cluster = CountingCluster(name)
        await cluster.start()
        stack.push_async_callback(cluster.close)
        yield Product(front, operator, cluster)


def _config(account: str, name: str, folder: Path) -> str:
    return str(config_of(account, name, folder))


def _let_keda_read(name: str, password: str) -> None:
    secret = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "keda"}, "stringData": {"password": password}}
    target = {"parameter": "password", "name": "keda", "key": "password"}
    authentication = {
        "apiVersion": names.KEDA_API_VERSION,
        "kind": "TriggerAuthentication",
        "metadata": {"name": names.KEDA_AUTHENTICATION},
        "spec": {"secretTargetRef": [target]},
    }
    create(name, secret)
    create(name, authentication)


async def _operator(stack: AsyncExitStack, folder: Path, env: dict[str, str]) -> Process:
    port = free_port()
    env = {**env, **LIMITS, "OPERATOR_HOST": "127.0.0.1", "OPERATOR_PORT": str(port)}
    process = Process("operator", OPERATE, folder, env)
    stack.callback(process.stop)
    await process.listens(port)
    return process


async def _front(stack: AsyncExitStack, folder: Path, env: dict[str, str], redis: LocalRedis) -> Front:
    key, port = secrets.token_urlsafe(24), free_port()
    env = {
        **env,
        "SESSION_RUNTIME": "kubernetes",
        "DATA_DIR": str(folder),
        "CLOUD_RUN_SESSION_DB_PATH": str(folder / "sessions.db"),
        "SESSION_API_KEYS": f"bench:{key}",
        "PORT": str(port),
        **LIMITS,
    }
    process = Process("front-door", SERVE, folder, env)
    stack.callback(process.stop)
    await process.listens(port)
    base, authorization = f"http://127.0.0.1:{port}", {"Authorization": f"Bearer {key}"}
    connector = aiohttp.TCPConnector(limit=0)
    client = await stack.enter_async_context(aiohttp.ClientSession(base, headers=authorization, connector=connector))
    return Front(port, key, process, redis.url, psutil.Process(redis.pid), folder / "sessions.db", client)
