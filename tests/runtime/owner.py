"""A process that owns a data folder and runs one pod: ``python owner.py DATA SESSION CODE [WARM]``.

It waits to be killed. WARM: so many pods of the same code wait for a session.
"""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

from session_manager.domain.session_class import SessionClass
from session_manager.runtime.process import ProcessRuntime


async def main(data: str, session: str, code: str, warm: str = "0") -> None:
    runtime = ProcessRuntime(Path(data), {})
    await runtime.start()
    command = (sys.executable, "-P", "-c", code)
    await runtime.start_pod(session, SessionClass("test", command), lambda words: None)
    kept = SessionClass("kept", command, warm=int(warm))
    await runtime.keep_warm([kept])
    while kept.warm and len(runtime._warm._pools["kept"]._ready) < kept.warm:
        await asyncio.sleep(0.01)
    print("ready", flush=True)
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
