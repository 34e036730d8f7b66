"""Write an agent in ten lines: a function from a message to a reply, and ``serve``.

::

    from session_manager.agent import serve

    def reply(message, context):
        return {"reply": f"You said {message}"}

    serve(reply)

It uses the standard library only and imports nothing else of this package. ``docs/pod-contract.md`` has the protocol.
"""

from session_manager.agent.chat import Context
from session_manager.agent.server import Server, serve

__all__ = ["Context", "Server", "serve"]
