"""From creating a session to its first reply, with warm pods and without, on one machine."""

from __future__ import annotations

import asyncio
from pathlib import Path
from time import perf_counter

import psutil

from benchmarks.front import Front
from benchmarks.progress import say
from benchmarks.wake import ASLEEP_WITHIN, LOOK_EVERY, is_pod

POOL = 2
FILLED_AFTER = 0.5  # seconds after the start of the processes, until they certainly answer
CLASSES = """
classes:
  - {name: cold, command: [python, -P, -m, session_manager.agent.echo]}
  - {name: warm, command: [python, -P, -m, session_manager.agent.echo], warm: %d}
"""


def write_classes(folder: Path) -> Path:
    file = folder / "classes.yaml"
    file.write_text(CLASSES % POOL, "utf-8")
    return file


async def compare(front: Front, times: int) -> dict[str, list[float]]:
    """Return the milliseconds of each try, alternating: ``cold`` and ``warm``. ``awake``: its second message.

    The pool is full before each try.
    """
    found: dict[str, list[float]] = {"cold": [], "warm": [], "awake": []}
    for number in range(times):
        for name in ("cold", "warm"):
            await _until_full(front)
            first, second = await _replies(front, name)
            found[name].append(first * 1e3)
        found["awake"].append(second * 1e3)
        say(f"first reply {number + 1} of {times}: {found['cold'][-1]:.0f} ms, warm {found['warm'][-1]:.1f} ms")
    return found


async def _replies(front: Front, class_name: str) -> tuple[float, float]:
    """Return the seconds from creation to the first reply, and of the second message. Then put it to sleep."""
    began = perf_counter()
    made = await front.expect(201, "POST", "/session/create", {"user_id": "ada", "class": class_name})
    path = f"/session/{made['uuid']}"
    await front.expect(200, "POST", f"{path}/chat", {"message": "hello"}, Prefer="wait=60")
    between = perf_counter()
    await front.expect(200, "POST", f"{path}/chat", {"message": "hello"}, Prefer="wait=60")
    ended = perf_counter()
    await front.expect(200, "POST", f"{path}/sleep")
    return between - began, ended - between


async def _until_full(front: Front) -> None:
    async with asyncio.timeout(ASLEEP_WITHIN):
        while sum(map(is_pod, psutil.Process(front.process.pid).children(recursive=True))) != POOL:
            await asyncio.sleep(LOOK_EVERY)
    await asyncio.sleep(FILLED_AFTER)
