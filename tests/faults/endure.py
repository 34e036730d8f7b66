"""One fault under load, from the first message until all is quiet, and the verdict."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar

from tests.faults.records import read_records, unfinished
from tests.faults.report import show
from tests.faults.verdict import Course, Evidence, figures, violations
from tests.faults.world import World

SENT_WITHIN = 120.0  # seconds
QUIET_WITHIN = 120.0
LOOK_EVERY = 0.1
REPEATED = 40  # acknowledged messages that are sent again afterwards, with the same keys
ASLEEP_WITHIN = 60.0

AnyWorld = TypeVar("AnyWorld", bound=World)
Injection = Callable[[AnyWorld], Awaitable[None]]


async def endure(world: AnyWorld, name: str, inject: Injection[AnyWorld], hang_up: float = 0.0) -> None:
    """Send the load, inject the fault in the middle of it, wait until all is quiet, and judge."""
    load = world.load(hang_up)
    fault_at = load.size // 2  # many messages wait then, and as many more arrive during the fault
    sending = asyncio.create_task(load.run())
    try:
        await load.until_acknowledged(fault_at)
        waiting = await unfinished(world.database)
        began = time.monotonic()
        await inject(world)
        over = time.monotonic() - began
        broken = await ends({sending}, SENT_WITHIN, "clients wait")
    finally:
        sending.cancel()
        await asyncio.gather(sending, return_exceptions=True)
    broken += await comes(world.quiet, QUIET_WITHIN, "messages wait")
    quiet = time.monotonic() - began
    broken += await comes(world.asleep, ASLEEP_WITHIN, "sessions are awake")
    course = Course(waiting, over, quiet, time.monotonic() - began)
    evidence = Evidence(load, await read_records(world.database), await world.listed(), world.deliveries())
    show(name, figures(evidence, course))
    broken += violations(evidence) + await load.repeat(REPEATED) + await load.once_more() + world.bugs()
    assert not broken, "\n".join(broken)


async def ends(tasks: set[asyncio.Task[None]], seconds: float, else_: str) -> list[str]:
    _, pending = await asyncio.wait(tasks, timeout=seconds)
    return (
        [f"{else_} after {seconds:g} s"] if pending else [str(task.exception()) for task in tasks if task.exception()]
    )


async def comes(condition: Callable[[], Awaitable[bool]], seconds: float, else_: str) -> list[str]:
    deadline = time.monotonic() + seconds
    while not await condition():
        if time.monotonic() > deadline:
            return [f"{else_} after {seconds:g} s"]
        await asyncio.sleep(LOOK_EVERY)
    return []
