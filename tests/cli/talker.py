"""An agent that obeys its messages: repeat words, send pieces, fail, or wait until the test lets it continue."""

import time
from pathlib import Path

from session_manager.agent import serve


def reply(message, context):
    command, _, rest = message.partition(" ")
    if command == "fail":
        raise RuntimeError(rest)
    print("heard", command, flush=True)
    if command == "pieces":
        yield from (f"{word} " for word in rest.split())
    elif command == "wait":
        yield "begun "
        while not (Path(context.home) / "go").exists():
            time.sleep(0.01)
        yield "ended"
    else:
        yield f"I heard {message}"


serve(reply)
