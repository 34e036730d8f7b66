"""From a message to a sleeping session to its reply, compared with starting the same process alone."""

from __future__ import annotations

import asyncio
from time import perf_counter

import aiohttp
import psutil

from benchmarks.cores import Cores
from benchmarks.front import Front
from benchmarks.processes import Process, free_port
from benchmarks.progress import say
from session_manager.runtime.classes import load_classes
from session_manager.settings import Settings

ASLEEP_WITHIN = 30.0
LOOK_EVERY = 0.005  # seconds between two checks, as in the product's own probe


async def compare(front: Front, cores: Cores, times: int) -> dict[str, list[float]]:
    """Return the milliseconds of each try, alternating: ``wake`` and ``bare``."""
    session = (await front.create(1))[0]
    await _chat(front, session)
    found: dict[str, list[float]] = {"wake": [], "bare": []}
    for number in range(times):
        await _put_to_sleep(front, session)
        began = perf_counter()
        await _chat(front, session)
        found["wake"].append((perf_counter() - began) * 1e3)
        found["bare"].append(await _start_bare(front, cores) * 1e3)
        say(f"wake {number + 1} of {times}: {found['wake'][-1]:.0f} ms, bare {found['bare'][-1]:.0f} ms")
    return found


async def _chat(front: Front, session: str) -> None:
    await front.expect(200, "POST", f"/session/{session}/chat", {"message": "hello"}, Prefer="wait=60")


async def _put_to_sleep(front: Front, session: str) -> None:
    """Put a session to sleep and wait until its process has ended, which is not part of the measured wake."""
    await front.expect(200, "POST", f"/session/{session}/sleep")
    async with asyncio.timeout(ASLEEP_WITHIN):
        while any(is_pod(child) for child in psutil.Process(front.process.pid).children(recursive=True)):
            await asyncio.sleep(LOOK_EVERY)


def is_pod(process: psutil.Process) -> bool:
    try:
        return "session_manager.agent.echo" in process.cmdline()
    except psutil.NoSuchProcess:
        return False


async def _start_bare(front: Front, cores: Cores) -> float:
    """Return the seconds from starting the class's own command to its reply."""
    command = load_classes(Settings.from_environment()).get("default").command
    port = free_port()
    began = perf_counter()
    with cores.on_servers():
        pod = Process("bare", command, front.database.parent, {"PORT": str(port), "HOST": "127.0.0.1"})
    try:
        async with aiohttp.ClientSession(f"http://127.0.0.1:{port}") as client:
            await _until_healthy(client)
            async with client.post("/chat", json={"message": "hello"}) as response:
                await response.read()
        return perf_counter() - began
    finally:
        pod.stop()


async def _until_healthy(client: aiohttp.ClientSession) -> None:
    while True:
        try:
            async with client.get("/health") as response:
                if response.ok:
                    return
        except aiohttp.ClientConnectionError:
            pass
        await asyncio.sleep(LOOK_EVERY)
