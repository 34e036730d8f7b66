"""Count messages twice: in memory, which a sleep clears, and in HOME, which exists as long as the session."""

from pathlib import Path

from session_manager.agent import Context, serve

in_memory = 0


def reply(message: str, context: Context) -> dict[str, object]:
    global in_memory  # noqa: PLW0603 - this is what the example shows
    in_memory += 1
    in_home = count(Path(context.home) / "count")
    words = f"message {in_home} of this session, {in_memory} since this pod started"
    return {"reply": words, "in_home": in_home, "in_memory": in_memory}


def count(file: Path) -> int:
    """Return the count in the file plus one, and store it. The rename leaves an intact file if the pod dies here."""
    number = int(file.read_text()) + 1 if file.exists() else 1
    new = file.with_suffix(".new")
    new.write_text(str(number))
    new.replace(file)
    return number


if __name__ == "__main__":
    serve(reply)
