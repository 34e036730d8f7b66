"""Die on demand, to show what happens to a message whose pod dies.

``die`` dies in the middle of every try, ``die once`` in the first one only. With CRASH_AT_START set it never starts.
"""

import os
import sys

from session_manager.agent import Context, serve


def reply(message: str, context: Context) -> dict[str, object]:
    if message == "die" or (message == "die once" and context.attempt == 1):
        os._exit(1)
    return {"reply": f"Alive, at attempt {context.attempt}"}


if __name__ == "__main__":
    if os.environ.get("CRASH_AT_START"):
        sys.exit("CRASH_AT_START is set")
    serve(reply)
