"""Repeat the message."""

from session_manager.agent import Context, serve


def reply(message: str, context: Context) -> dict[str, object]:
    return {"reply": f"You said: {message}"}


if __name__ == "__main__":
    serve(reply)
