"""kubectl, for one-off steps: namespaces, accounts, definitions."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from benchmarks.processes import CannotStart
from tests.servers import crds

ACCOUNTS = ("front-door", "operator")
TOKEN_FOR = "6h"
GONE_WITHIN = "150s"


def kubectl(*words: str, stdin: str | None = None) -> str:
    """Run kubectl and return its output. Raises CannotStart with its error text if it fails."""
    try:
        done = subprocess.run(
            ["kubectl", *words], input=stdin, capture_output=True, text=True, timeout=300, check=False
        )
    except FileNotFoundError:
        raise CannotStart("kubectl is not on PATH") from None
    if done.returncode:
        raise CannotStart(f"kubectl {' '.join(words)}: {done.stderr.strip()}")
    return done.stdout


def define_kinds() -> None:
    """Install the definitions of Session and SessionClass."""
    for definition in crds.load():
        kubectl("apply", "--server-side", "--force-conflicts", "-f", "-", stdin=json.dumps(definition))
        kubectl("wait", "--for=condition=Established", f"crd/{definition['metadata']['name']}", "--timeout=30s")


def serves_keda() -> bool:
    return "scaledobjects" in kubectl("api-resources", "--api-group=keda.sh", "-o", "name")


@contextmanager
def namespace(name: str, *, until_gone: bool = True) -> Iterator[str]:
    """Create a namespace with a service account for each program, and delete it at the end."""
    kubectl("create", "namespace", name)
    try:
        for account in ACCOUNTS:
            kubectl("-n", name, "create", "serviceaccount", account)
            words = ["--clusterrole=cluster-admin", f"--serviceaccount={name}:{account}"]
            kubectl("-n", name, "create", "rolebinding", account, *words)
        yield name
    finally:
        with suppress(CannotStart):  # the deletion continues; the figures are still good
            kubectl("delete", "namespace", name, f"--wait={str(until_gone).lower()}", f"--timeout={GONE_WITHIN}")


def config_of(account: str, name: str, folder: Path) -> Path:
    """Return a kubeconfig for this account, so that the API server can tell the clients apart."""
    token = kubectl("-n", name, "create", "token", account, f"--duration={TOKEN_FOR}").strip()
    config = json.loads(kubectl("config", "view", "--raw", "--minify", "--flatten", "-o", "json"))
    config["users"] = [{"name": config["users"][0]["name"], "user": {"token": token}}]
    path = folder / f"{account}.kubeconfig"
    path.touch(mode=0o600)
    path.write_text(json.dumps(config))
    return path


def create(name: str, body: dict[str, Any]) -> None:
    """Create an object in the namespace."""
    kubectl("-n", name, "create", "-f", "-", stdin=json.dumps(body))
