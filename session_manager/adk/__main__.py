"""``python -m session_manager.adk AGENTS_DIR``: run an ADK agent as the pod of a session."""

from __future__ import annotations

import argparse

from session_manager.adk.server import serve


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m session_manager.adk", description=__doc__)
    parser.add_argument("agents_dir", help="a folder of agents, or of one agent, as for adk api_server")
    parser.add_argument("--artifact_service_uri", help="by default files in HOME")
    parser.add_argument("--memory_service_uri")
    given = parser.parse_args()
    serve(given.agents_dir, given.artifact_service_uri, given.memory_service_uri)


if __name__ == "__main__":
    main()
