"""Volumes in folders of this machine, for a cluster without a provisioner."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.cluster.world import kubectl


@contextmanager
def volumes(folder: Path, class_name: str, count: int = 1) -> Iterator[None]:
    """Create ``count`` volumes for claims of this storage class, or of no class if it is empty."""
    made = [f"{class_name or 'default'}-{number}" for number in range(count)]
    try:
        for name in made:
            _make(folder / name, name, class_name)
        yield
    finally:
        kubectl("delete", "pv", *made, "--ignore-not-found", "--wait=false")


def _make(path: Path, name: str, class_name: str) -> None:
    path.mkdir()
    for each in (path, *path.parents):
        if each.stat().st_mode & 0o001 == 0:
            each.chmod(0o755)
    path.chmod(0o777)
    spec = {
        "capacity": {"storage": "100Gi"},
        "accessModes": ["ReadWriteOnce"],
        "storageClassName": class_name,
        "persistentVolumeReclaimPolicy": "Retain",
        "hostPath": {"path": str(path)},
    }
    body = {"apiVersion": "v1", "kind": "PersistentVolume", "metadata": {"name": name}, "spec": spec}
    kubectl("create", "-f", "-", stdin=json.dumps(body))
