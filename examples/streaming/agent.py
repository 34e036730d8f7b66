"""Repeat the message one word at a time. Each piece that a generator yields reaches the caller at once."""

import asyncio
from collections.abc import AsyncIterator

from session_manager.agent import Context, serve


async def reply(message: str, context: Context) -> AsyncIterator[str]:
    for word in f"You said: {message}".split(" "):
        yield word + " "
        await asyncio.sleep(0.1)


if __name__ == "__main__":
    serve(reply)
