"""Pools of warm pods, as tests look at them."""

from __future__ import annotations

import json
import uuid
from pathlib import Path

import aiohttp

from session_manager.domain.session_class import SessionClass
from session_manager.runtime.process import ProcessRuntime
from session_manager.runtime.protocol import PodAddress
from tests.waiting import until


def new_session() -> str:
    return str(uuid.uuid4())


def waiting(data: Path) -> list[Path]:
    """Folders of the pods that know no session, also of those that are not ready yet."""
    return [folder for folder in (data / "pods").iterdir() if (data / "run" / f"{folder.name}.json").exists()]


def record_pid(data: Path, name: str) -> int:
    return int(json.loads((data / "run" / f"{name}.json").read_text())["pid"])


async def fill(runtime: ProcessRuntime, session_class: SessionClass) -> None:
    await runtime.keep_warm([session_class])
    await full(runtime, session_class)


async def full(runtime: ProcessRuntime, session_class: SessionClass) -> None:
    pool = runtime._warm._pools[session_class.name]
    await until(lambda: len(pool._ready) == session_class.warm)


async def claim(runtime: ProcessRuntime, session: str, session_class: SessionClass) -> tuple[PodAddress, bool]:
    """Return the pod, and True if it was warm, that is, no phase of a start was reported."""
    phases: list[str] = []
    address = await runtime.start_pod(session, session_class, phases.append)
    return address, phases == []


async def chat(address: PodAddress, session: str) -> int:
    headers = {"X-Session-Id": session, "X-Message-Id": "m"}
    url = f"http://{address.ip}:{address.port}/chat"
    async with aiohttp.ClientSession() as client, client.post(url, json={"message": "x"}, headers=headers) as response:
        return response.status
