"""Facts about a localkube: its settings, the CPU time of its parts, its audit log, etcd's counters.

Each is empty on any other cluster.
"""

from __future__ import annotations

import os
import re
import subprocess
import urllib.request
from pathlib import Path

import psutil

from benchmarks.processes import cpu_of

PARTS = ("keda", "kube-apiserver", "etcd", "kube-controller-manager")
AUDITED = "bench-cost"  # the namespace whose requests hack/bench-cluster logs
ETCD = "http://127.0.0.1:2379/metrics"
_WRITES = re.compile(r"^etcd_mvcc_(?:put|delete)_total (\S+)$", re.MULTILINE)


def _folder() -> Path | None:
    return Path(os.environ["KUBECONFIG"]).parent if "LOCALKUBE" in os.environ else None


def settings() -> list[str]:
    """Return the differences from a default cluster, one per line."""
    if "LOCALKUBE" not in os.environ:
        return []
    done = subprocess.run([os.environ["LOCALKUBE"], "settings"], capture_output=True, text=True, check=True)
    return done.stdout.splitlines()


def parts() -> dict[str, psutil.Process]:
    """Return the running processes by name."""
    folder, found = _folder(), {}
    for name in PARTS:
        file = None if folder is None else folder / f"{name}.pid"
        if file is not None and file.exists():
            found[name] = psutil.Process(int(file.read_text()))
    return found


def cpu() -> dict[str, float]:
    """Return the seconds of CPU that each part has used."""
    return {name: cpu_of(process) for name, process in parts().items()}


def audit_log() -> Path | None:
    folder = _folder()
    return folder / "audit.log" if folder is not None and (folder / "audit.log").exists() else None


def etcd_writes() -> float | None:
    """Return the number of keys written and deleted since etcd started."""
    if _folder() is None:
        return None
    with urllib.request.urlopen(ETCD, timeout=10) as answer:
        return sum(map(float, _WRITES.findall(answer.read().decode())))
