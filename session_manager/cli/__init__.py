"""The command ``session-manager``. What serves is imported only by the commands that serve."""

from __future__ import annotations

import sys


def main() -> None:
    """Run the command line. What is expected to go wrong is one line on stderr and an exit code."""
    from session_manager.cli.app import app  # noqa: PLC0415  importing the package costs nothing
    from session_manager.cli.failures import explain  # noqa: PLC0415

    try:
        app(prog_name="session-manager")
    except Exception as error:
        told = explain(error)
        if told is None:
            raise
        print(f"Error: {told.line}", file=sys.stderr)
        sys.exit(told.exit_code)
