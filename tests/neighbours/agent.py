"""The pod of victims and attackers. It repeats a message, or does what the message orders as JSON.

``{"reply": 1000}`` makes a reply of 1,000 characters. ``{"deltas": 12, "size": 900}`` streams 12 pieces of 900
characters, and then replies.
"""

from __future__ import annotations

import json
from collections.abc import Generator

from session_manager.agent import Context, serve


def answer(message: str, context: Context) -> Generator[object, None, dict[str, str]]:
    order = json.loads(message) if message.startswith("{") else {}
    for _ in range(order.get("deltas", 0)):
        yield "d" * order["size"]
    return {"reply": "r" * order["reply"] if "reply" in order else f"heard {message}"}


if __name__ == "__main__":
    serve(answer)
