"""Take the number of seconds in the message, or in the variable SECONDS."""

import asyncio
import os

from session_manager.agent import Context, serve

SECONDS = float(os.environ.get("SECONDS", "5"))


async def reply(message: str, context: Context) -> dict[str, object]:
    seconds = float(message) if message.replace(".", "", 1).isdigit() else SECONDS
    await asyncio.sleep(seconds)
    return {"reply": f"That took {seconds:g} seconds"}


if __name__ == "__main__":
    serve(reply)
