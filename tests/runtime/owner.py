"""A process that owns a data folder and runs one pod: ``python owner.py DATA SESSION CODE``. It waits to be killed."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

from session_manager.domain.session_class import SessionClass
from session_manager.runtime.process import ProcessRuntime


async def main(data: str, session: str, code: str) -> None:
    runtime = ProcessRuntime(Path(data), {})
    await runtime.start()
    command = (sys.executable, "-P", "-c", code)
    await runtime.start_pod(session, SessionClass("test", command), lambda words: None)
    print("ready", flush=True)
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
