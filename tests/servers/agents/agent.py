"""The agent of the end-to-end tests: it does what the message says.

``sleep N`` takes N seconds, ``stream …`` streams by word, ``hold FILE …`` does too and ends once the file exists,
``die`` ends the pod, ``environment`` returns its variables.
"""

import os
import time
from pathlib import Path

from session_manager.agent import Context, serve


def held(path: str, *words: str):
    yield from words
    while not Path(path).exists():
        time.sleep(0.01)


def reply(message: str, context: Context):
    word, _, rest = message.partition(" ")
    if word == "sleep":
        time.sleep(float(rest))
    if word == "die":
        print("out of ideas", flush=True)
        os._exit(3)
    if word == "environment":
        return {"environment": dict(os.environ)}
    if word == "stream":
        return (piece + " " for piece in rest.split(" "))
    if word == "trace":
        return context.trace
    if word == "hold":
        return held(*rest.split())
    return {"reply": message, "attempt": context.attempt}


serve(reply)
