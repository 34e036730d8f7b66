"""The rights of the two service accounts: those of the page, and enough for their work."""

from __future__ import annotations

import json
import os
import re
import signal
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from session_manager.runtime.kubernetes.cluster import DEPLOYMENTS
from tests.cluster.accounts import ACCOUNTS, DOOR, OPERATOR, service_of, user_of
from tests.cluster.accounts import accounts as created_accounts
from tests.cluster.world import FrontDoorProcess, World, kubectl
from tests.waiting import until

ROOT = Path(__file__).parents[2]

Rights = dict[str, set[str]]


@pytest.fixture
async def accounts(namespace: str) -> AsyncIterator[str]:
    """Create the service accounts of a release with their Roles and admission policies."""
    async with created_accounts(namespace):
        yield namespace


def documented() -> dict[str, Rights]:
    """Return the table of the security page, by service account."""
    page = (ROOT / "docs" / "kubernetes" / "security.md").read_text()
    found: dict[str, Rights] = {}
    account = ""
    for line in page.splitlines():
        row = re.fullmatch(r"\| (?:`([a-z-]+)`)? ?\| ([^|]+) \| ([a-z ]+) \|", line)
        if row is None or row[2] == "resource":
            continue
        account = row[1] or account
        for resource in row[2].split(", "):
            found.setdefault(account, {})[resource] = set(row[3].split())
    return found


def granted(namespace: str, account: str) -> Rights:
    """Return the rights that the cluster reports, without those of every account."""
    words = ["auth", "can-i", "--list", "-n", namespace, "--no-headers"]
    everybody = kubectl(*words, "--as", f"system:serviceaccount:{namespace}:nobody").splitlines()
    mine = kubectl(*words, "--as", user_of(namespace, account)).splitlines()
    found: Rights = {}
    for line in mine:
        if line not in everybody:
            resource, verbs = re.fullmatch(r"(\S+)\s+\[\]\s+\[\]\s+\[(.*)\]", line).groups()  # type: ignore[union-attr]
            # kubectl writes deployments/scale.apps for deployments.apps/scale.
            found[re.sub(r"^(\w+)(/\w+)(\..+)$", r"\1\3\2", resource)] = set(verbs.split())
    return found


@pytest.mark.parametrize("account", ACCOUNTS)
def test_the_rights_are_those_of_the_page(accounts: str, account: str):
    assert granted(accounts, account) == documented()[account]


@pytest.mark.parametrize("account", ACCOUNTS)
@pytest.mark.parametrize("resource", ["secrets", "configmaps", "pods/exec", "roles", "serviceaccounts/token"])
def test_no_account_reads_foreign_resources(accounts: str, account: str, resource: str):
    for verb in ("get", "create"):
        kind, _, subresource = resource.partition("/")
        words = ["auth", "can-i", verb, kind, f"--subresource={subresource}", "--as", user_of(accounts, account)]
        for where in (accounts, service_of(accounts), "default", "kube-system"):
            assert kubectl(*words, "-n", where, check=False).startswith("no"), where


@pytest.mark.parametrize("account", ACCOUNTS)
def test_no_account_writes_outside_the_namespace_of_sessions(accounts: str, account: str):
    """Not even what it writes there: a front door cannot scale the operator to zero."""
    who = ["--as", user_of(accounts, account)]
    for where in (service_of(accounts), "default", "kube-system"):
        for resource in documented()[account]:
            kind, _, subresource = resource.partition("/")
            kind = f"{kind}.{subresource.partition('.')[2]}" if "." in subresource else kind
            for verb in ("create", "patch", "update", "delete"):
                words = [
                    "auth",
                    "can-i",
                    verb,
                    kind,
                    f"--subresource={subresource.partition('.')[0]}",
                    "-n",
                    where,
                    *who,
                ]
                assert kubectl(*words, check=False).startswith("no"), (where, resource, verb)


def kubeconfig(folder: Path, namespace: str, account: str) -> str:
    """Return the present configuration with this service account."""
    present: dict[str, Any] = yaml.safe_load(Path(os.environ["KUBECONFIG"].split(":")[0]).read_text())
    token = kubectl("-n", service_of(namespace), "create", "token", account).strip()
    name = next(
        each["context"]["cluster"] for each in present["contexts"] if each["name"] == present["current-context"]
    )
    file = folder / account
    cluster = next(each for each in present["clusters"] if each["name"] == name)
    context = {"cluster": name, "user": account, "namespace": namespace}
    file.write_text(
        json.dumps(
            {
                "apiVersion": "v1",
                "kind": "Config",
                "clusters": [cluster],
                "users": [{"name": account, "user": {"token": token}}],
                "contexts": [{"name": account, "context": context}],
                "current-context": account,
            }
        )
    )
    return str(file)


async def test_they_are_enough(world: World, accounts: str, door: FrontDoorProcess, tmp_path: Path):
    """Run the whole life of a session with these accounts only, with warm pods, and without an operator."""
    files = {account: kubeconfig(tmp_path, accounts, account) for account in ACCOUNTS}
    world.operator.stop()
    door.stop()
    world.operator.start(KUBECONFIG=files[OPERATOR])
    await door.start(KUBECONFIG=files[DOOR])
    await world.make_class()
    await world.make_class("warm", warm=1)

    async def warm() -> bool:
        deployment = await world.find(DEPLOYMENTS, "warm-warm")
        return deployment is not None and deployment.get("status", {}).get("readyReplicas") == 1

    await until(warm, 60)
    sessions = [await door.create(name) for name in ("default", "warm")]
    for session in sessions:
        await door.chat(session, "one")
        status, found = await door.ask("GET", f"/session/{session}/logs")
        assert status == 200, found
    already = door.log().count("deputy.begins")
    world.operator.stop(signal.SIGKILL)
    await until(lambda: door.log().count("deputy.begins") > already, 30)
    for session in sessions:
        assert (await door.ask("POST", f"/session/{session}/sleep"))[0] == 200
        await door.until_status(session, "sleeping")
        await door.chat(session, "two")
    world.operator.start(KUBECONFIG=files[OPERATOR])
    await until(lambda: "deputy.ends" in door.log(), 30)
    patch = ["patch", "session", sessions[0], "--type=merge", "-p", '{"spec": {"mode": "Suspended"}}']
    kubectl("-n", world.namespace, *patch)
    await world.until_phase(sessions[0], "Suspended")
    for session in sessions:
        assert (await door.ask("DELETE", f"/session/{session}"))[0] == 200

    async def nothing_left() -> bool:
        return not any([await world.pods(session) for session in sessions])

    await until(nothing_left, 60)
    for log in (door.log(), world.operator.log()):
        assert "forbidden" not in log.lower()
