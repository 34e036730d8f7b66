"""The environment of a pod. It is built from scratch: a pod sees only the variables that are named here."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from pathlib import Path

from pydantic import SecretStr

from session_manager.domain.session_class import SessionClass
from session_manager.settings import Settings

# The runtime sets these, so a class cannot.
RESERVED = frozenset({"HOME", "HOST", "PORT", "SESSION_ID", "TMPDIR"})


def agent_environment(settings: Settings) -> dict[str, str]:
    """Return the settings that every agent receives: keys and model of providers, ENVIRONMENT, our address."""
    values = settings.agents.model_dump(by_alias=True) | {"SESSION_MANAGER_URL": settings.pods.front_door_url}
    return {
        name: value.get_secret_value() if isinstance(value, SecretStr) else value
        for name, value in values.items()
        if value is not None
    }


def pod_environment(
    session: str | None, port: int, home: Path, tmp: Path, session_class: SessionClass, agent_env: Mapping[str, str]
) -> dict[str, str]:
    """Return the environment of one pod. ``session`` is None if the pod does not learn the id of its session.

    ``python`` is our own Python, so that an agent can import ``session_manager.agent``.
    """
    bin_folder = str(Path(sys.executable).parent)
    return {
        "PATH": os.pathsep.join([bin_folder, *os.get_exec_path()]),
        "LANG": "C.UTF-8",
        "PYTHONUNBUFFERED": "1",
        **agent_env,
        **session_class.env,
        "HOME": str(home),
        "TMPDIR": str(tmp),
        "HOST": "127.0.0.1",
        "PORT": str(port),
        **({} if session is None else {"SESSION_ID": session}),
    }
