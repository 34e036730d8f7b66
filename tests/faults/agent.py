"""The pod of these tests: it works for a while, repeats the message, and keeps a journal of its deliveries.

The journal is in its HOME, which outlives pods: a line ``["start", message id, attempt, pid, time]`` when it gets a
message, and one with ``"end"`` when it has its reply.
"""

from __future__ import annotations

import json
import os
import time

from session_manager.agent import Context, serve

WORK = float(os.environ["WORK"])  # seconds


def reply(message: str, context: Context) -> dict[str, object]:
    note(context, "start")
    time.sleep(WORK)
    note(context, "end")
    return {"reply": f"heard {message}", "message_id": context.message_id}


def note(context: Context, what: str) -> None:
    entry = [what, context.message_id, context.attempt, os.getpid(), time.time()]
    with open(f"{context.home}/journal", "a", encoding="utf-8") as journal:  # noqa: PTH123  pathlib starts slowly
        journal.write(json.dumps(entry) + "\n")


if __name__ == "__main__":
    serve(reply)
