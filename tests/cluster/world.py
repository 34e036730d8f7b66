"""The tools of a cluster test: kubectl, an operator process, one namespace, the clients of a front door."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import urllib.request
from pathlib import Path
from typing import Any
from uuid import uuid4

import requests

from session_manager.activity.link import Link
from session_manager.activity.redis import RedisActivity
from session_manager.domain.session import Failure
from session_manager.domain.session_class import SessionClass
from session_manager.runtime.kubernetes import names
from session_manager.runtime.kubernetes.cluster import (
    CLASSES,
    DEPLOYMENTS,
    PODS,
    SERVICES,
    SESSIONS,
    ApiNotFound,
    Cluster,
    Resource,
)
from session_manager.runtime.protocol import PodAddress
from tests.waiting import until

Json = dict[str, Any]

IMAGE = os.environ.get("CLUSTER_TEST_IMAGE", "localhost/session-agent:test")
CLASS = SessionClass("default", idle_timeout=60)


def kubectl(*words: str, stdin: str | None = None, check: bool = True) -> str:
    """Return what it printed. Raises AssertionError with its error text if it failed."""
    done = subprocess.run(["kubectl", *words], input=stdin, capture_output=True, text=True, timeout=60, check=False)
    if check and done.returncode:
        raise AssertionError(done.stderr)
    return done.stdout + ("" if check else done.stderr)


class FrontDoorProcess:
    """``session-manager serve`` for one namespace, on a free port, with SQLite in ``folder``."""

    def __init__(self, namespace: str, redis_url: str, folder: Path) -> None:
        self._log = folder / "log"
        self._env = {
            **{name: os.environ[name] for name in ("PATH", "HOME", "KUBECONFIG") if name in os.environ},
            "SESSION_RUNTIME": "kubernetes",
            "SESSIONS_NAMESPACE": namespace,
            "REDIS_URL": redis_url,
            "DATA_DIR": str(folder / "data"),
            "CLOUD_RUN_SESSION_DB_PATH": str(folder / "sessions.db"),
            "PORT": "0",
            "LOG_FORMAT": "json",
            "REPAIR_INTERVAL": "0.5",
            "SHUTDOWN_TIMEOUT": "3",
        }
        self._process: subprocess.Popen[bytes] | None = None
        self.url = ""

    async def start(self, **env: str) -> None:
        """Start it, and return when it is ready: it knows the Sessions and classes of the cluster."""
        with self._log.open("ab") as log:
            command = [str(Path(sys.executable).parent / "session-manager"), "serve"]
            folder, environment = self._log.parent, {**self._env, **env}
            # Popen, as for the operator: both are stopped and killed by the same few lines.
            self._process = subprocess.Popen(command, env=environment, stdout=log, stderr=log, cwd=folder)  # noqa: ASYNC220
        already = self.log().count("front.serving")
        await until(lambda: self.log().count("front.serving") > already, 30)
        lines = [json.loads(line) for line in self.log().splitlines() if "front.serving" in line]
        self.url = f"http://127.0.0.1:{lines[-1]['port']}"
        await until(self._ready, 30)

    async def _ready(self) -> bool:
        return (await self.ask("GET", "/readyz"))[0] == 200

    def stop(self, number: signal.Signals = signal.SIGTERM) -> int:
        assert self._process is not None
        self._process.send_signal(number)
        code = self._process.wait(20)
        self._process = None
        return code

    @property
    def running(self) -> bool:
        return self._process is not None

    def log(self) -> str:
        return self._log.read_text() if self._log.exists() else ""

    async def ask(self, method: str, path: str, body: Json | None = None, **headers: str) -> tuple[int, Any]:
        """Return the status and the JSON (or text) of one request."""

        def ask() -> tuple[int, Any]:
            answer = requests.request(method, self.url + path, json=body, headers=headers, timeout=90)
            return answer.status_code, answer.json() if "json" in answer.headers["content-type"] else answer.text

        return await asyncio.to_thread(ask)

    async def create(self, class_name: str = "default", user: str = "ann") -> str:
        async def created() -> str | None:
            status, found = await self.ask("POST", "/session/create", {"user_id": user, "class": class_name})
            return found["uuid"] if status == 201 else None  # its watch may not have reported the class yet

        uuid: str = await until(created, 20)
        return uuid

    async def chat(self, session: str, message: str, wait: int = 60) -> Json:
        status, found = await self.ask("POST", f"/session/{session}/chat", {"message": message}, Prefer=f"wait={wait}")
        assert (status, found.get("status")) == (200, "processed"), (status, found)
        reply: Json = found["pod_response"]
        return reply

    async def until_status(self, session: str, status: str) -> Json:
        async def reached() -> Json | None:
            _, found = await self.ask("GET", f"/session/{session}")
            return found if found.get("status") == status else None

        found: Json = await until(reached, 60)
        return found


class OperatorProcess:
    """``python -m session_operator`` in one namespace."""

    def __init__(self, namespace: str, redis_url: str, log: Path) -> None:
        self._log = log
        self._env = {
            **{name: os.environ[name] for name in ("PATH", "HOME", "KUBECONFIG") if name in os.environ},
            "REDIS_URL": redis_url,
            "SESSIONS_NAMESPACE": namespace,
            "OPERATOR_HOST": "127.0.0.1",
            "OPERATOR_PORT": "0",
            "LOG_FORMAT": "json",
            "HEARTBEAT": "5",
            "RETRY_FIRST": "1",
            "ALLOWED_SECRETS": "keys",
            "ALLOWED_PRIORITY_CLASSES": "nope",
        }
        self._process: subprocess.Popen[bytes] | None = None

    def start(self, **env: str) -> None:
        with self._log.open("ab") as log:
            command = [sys.executable, "-m", "session_operator"]
            folder = self._log.parent
            self._process = subprocess.Popen(command, env={**self._env, **env}, stdout=log, stderr=log, cwd=folder)

    def stop(self, number: signal.Signals = signal.SIGTERM) -> int:
        assert self._process is not None
        self._process.send_signal(number)
        code = self._process.wait(20)
        self._process = None
        return code

    @property
    def running(self) -> bool:
        return self._process is not None

    def log(self) -> str:
        return self._log.read_text() if self._log.exists() else ""

    def log_events(self) -> list[str]:
        lines = [line for line in self.log().splitlines() if line.startswith("{")]
        return [json.loads(line).get("event", "") for line in lines]


async def _nothing_unfinished() -> bool:
    return False


class World:
    """One namespace, with clients to inspect and change it."""

    def __init__(self, namespace: str, cluster: Cluster, link: Link, operator: OperatorProcess) -> None:
        self.namespace = namespace
        self.cluster = cluster
        self.link = link
        self.activity = RedisActivity(link, lease=15, heartbeat=5, has_unfinished=_nothing_unfinished)
        self.operator = operator
        self.doors: list[FrontDoorProcess] = []

    async def make_class(self, name: str = "default", **spec: Any) -> None:
        body = {
            "apiVersion": names.API_VERSION,
            "kind": names.CLASS_KIND,
            "metadata": {"name": name},
            "spec": {"image": IMAGE, "gracePeriodSeconds": 1, **spec},
        }
        await self.cluster.apply(CLASSES, body, "test")

    async def make_session(self, class_name: str = "default", uuid: str | None = None, **spec: Any) -> str:
        uuid = uuid or str(uuid4())
        body = {
            "apiVersion": names.API_VERSION,
            "kind": names.SESSION_KIND,
            "metadata": {"name": uuid},
            "spec": {"owner": "ann", "classRef": {"name": class_name}, **spec},
        }
        await self.cluster.create(SESSIONS, body, "test")
        return uuid

    async def find(self, resource: Resource, name: str) -> Json | None:
        try:
            return await self.cluster.get(resource, name)
        except ApiNotFound:
            return None

    async def child(self, resource: Resource, session: str) -> Json | None:
        return await self.find(resource, names.child_name(session))

    async def status(self, session: str) -> Json:
        found = await self.find(SESSIONS, session)
        return {} if found is None else found.get("status", {})

    async def pods(self, session: str) -> list[Json]:
        found, _ = await self.cluster.list(PODS, f"{names.SESSION_LABEL}={session}")
        return found

    def report(self) -> str:
        """Return what a person wants to read after a failure."""
        words = ["-n", self.namespace]
        parts = [
            kubectl(*words, "get", "sessions,sessionclasses,deployments,replicasets,pods", "-o", "wide", check=False),
            kubectl(*words, "get", "events", "--sort-by=.lastTimestamp", check=False),
        ]
        pods = kubectl(*words, "get", "pods", "-o", "name", check=False).split()
        parts += [f"{pod}\n{kubectl(*words, 'logs', pod, '--tail=30', check=False)}" for pod in pods[:10]]
        parts += ["front door:\n" + "\n".join(door.log().splitlines()[-40:]) for door in self.doors]
        parts.append("operator:\n" + "\n".join(self.operator.log().splitlines()[-60:]))
        return "\n\n".join(parts)

    # -- actions of a front door ---------------------------------------------------------------------------------------

    async def wake(self, session: str, class_name: str = "default") -> None:
        await self.activity.wake(session, SessionClass(class_name, idle_timeout=60))

    async def published(self, session: str) -> PodAddress | None:
        """Return the address that front doors would use now."""
        desire = await self.activity.desire(session)
        ip, port, uid = await self.link.execute("HMGET", f"session:{session}", "ip", "port", "pod")
        return PodAddress(ip.decode(), int(port), uid.decode()) if desire.published and uid else None

    async def awake(self, session: str, class_name: str = "default") -> PodAddress:
        """Wake it and wait until its address is published."""
        await self.wake(session, class_name)

        async def published() -> PodAddress | None:
            failure = (await self.activity.hot(session)).failure
            assert failure is None, failure
            return await self.published(session)

        found: PodAddress = await until(published, 60)
        return found

    async def asleep(self, session: str) -> None:
        """Put it to sleep and wait until no pod is left."""
        assert await self.activity.fence(session, CLASS, force=True) == "PASSED"

        async def none_left() -> bool:
            return not await self.pods(session)

        await until(none_left, 30)

    async def failure(self, session: str, class_name: str = "default") -> Failure:
        """Wake it and wait until its start has failed."""
        await self.wake(session, class_name)

        async def failed() -> Failure | None:
            return (await self.activity.hot(session)).failure

        found: Failure = await until(failed, 60)
        return found

    async def until_phase(self, session: str, phase: str) -> Json:
        """Return the status once it has this phase."""

        async def reached() -> Json | None:
            status = await self.status(session)
            return status if status.get("phase") == phase else None

        found: Json = await until(reached, 30)
        return found

    async def until_created(self, session: str) -> None:
        """Wait until the session has its phase and its children, which come in any order."""
        await self.until_phase(session, "Created")

        async def complete() -> bool:
            return all([await self.child(resource, session) for resource in (DEPLOYMENTS, SERVICES)])

        await until(complete, 30)


async def chat(address: PodAddress, session: str, message: str) -> Json:
    """Return the reply of the pod itself."""
    body = {"message": message, "message_id": str(uuid4()), "session_id": session, "user_id": "ann"}
    headers = {"Content-Type": "application/json", "X-Session-Id": session, "X-Attempt": "1"}
    url = f"http://{address.ip}:{address.port}/chat"
    request = urllib.request.Request(url, json.dumps(body).encode(), headers, method="POST")

    def ask() -> Json:
        with urllib.request.urlopen(request, timeout=10) as response:
            found: Json = json.load(response)
            return found

    return await asyncio.to_thread(ask)
