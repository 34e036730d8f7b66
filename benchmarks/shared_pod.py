"""The owner of the pods for load tests: the product's scaler over a runtime whose pods are all the same echo process.

Hundreds of agents in Python would measure themselves and the memory of this machine.  So this process takes the lock of
the data folder, as the owner of the pods does, and gives every session that wants a pod the address of the same echo.
The front door under test is unchanged: it sees sessions that were woken elsewhere, as on Kubernetes.

``python -m benchmarks.shared_pod POD_PORT`` with REDIS_URL and DATA_DIR
"""

from __future__ import annotations

import os
import sys
from uuid import uuid4

import uvloop

from session_manager.activity.link import Link
from session_manager.activity.redis import RedisActivity
from session_manager.domain.session_class import SessionClass
from session_manager.runtime.classes import load_classes
from session_manager.runtime.process.folders import Folders, take_lock
from session_manager.runtime.protocol import ExitListener, PhaseListener, PodAddress
from session_manager.scaling.scaler import Scaler
from session_manager.scaling.workers import ScalerKit, ScalerTimes
from session_manager.settings import Settings


class SharedPod:
    """A Runtime in which a pod is only an address with its own UID."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._pods: dict[str, PodAddress] = {}

    async def start(self) -> None: ...

    async def close(self, grace: float | None = None) -> None: ...

    def on_exit(self, listener: ExitListener) -> None: ...

    async def start_pod(self, session: str, session_class: SessionClass, on_phase: PhaseListener) -> PodAddress:
        address = self._pods[session] = PodAddress("127.0.0.1", self._port, str(uuid4()))
        return address

    async def stop_pod(self, session: str, uid: str, grace: float) -> None:
        self._pods.pop(session, None)

    def pods(self) -> dict[str, PodAddress]:
        return dict(self._pods)

    async def forget(self, session: str, *, files: bool) -> None:
        self._pods.pop(session, None)

    async def gone(self, session: str) -> bool:
        return session not in self._pods

    async def logs(self, session: str, tail: int) -> str:
        return ""


async def _nothing_is_open() -> bool:
    return False


async def main(pod_port: int) -> None:
    settings = Settings.from_environment()
    folders = Folders(settings.server.data_dir)
    folders.make()
    lock = await take_lock(folders.lock, patience=1.0)
    activity = RedisActivity(
        Link.from_settings(settings),
        lease=settings.sessions.lease,
        heartbeat=settings.pods.heartbeat,
        has_unfinished=_nothing_is_open,  # the database is new: no front door has a lease to assert again
    )
    await activity.start()
    try:
        kit = ScalerKit(activity, load_classes(settings), ScalerTimes(), settings.pods.max_wakes)
        await Scaler(kit, SharedPod(pod_port)).run()
    finally:
        await activity.close()
        os.close(lock)


if __name__ == "__main__":
    uvloop.run(main(int(sys.argv[1])))
