"""The command ``session-manager``. Each command imports only what it needs, so that short ones start fast."""

from __future__ import annotations

import sys


def main() -> None:
    """Run the command line. An error that is not a bug is one line on stderr and an exit code."""
    from session_manager.cli.app import app  # noqa: PLC0415  importing the package costs nothing
    from session_manager.cli.failures import explain  # noqa: PLC0415
    from session_manager.cli.show import write_anywhere  # noqa: PLC0415

    write_anywhere()
    try:
        app(prog_name="session-manager")
    except Exception as error:
        failure = explain(error)
        if failure is None:
            raise
        print(f"Error: {failure.line}", file=sys.stderr)
        sys.exit(failure.exit_code)
