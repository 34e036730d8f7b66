"""Waiting for the first of several things."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Iterable
from typing import Any


async def first_of(waits: Iterable[Coroutine[Any, Any, Any]], name: str) -> None:
    """Until one of them is over, and raise what it raised. ``name``: of their tasks, of which none is left."""
    tasks = [asyncio.create_task(each, name=name) for each in waits]
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            task.result()
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
