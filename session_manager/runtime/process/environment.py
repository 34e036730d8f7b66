"""The environment of a pod, built from nothing: what is not listed here, a pod does not see."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from pathlib import Path

from session_manager.domain.session_class import SessionClass
from session_manager.settings import Settings

# What the runtime itself decides; a class cannot say otherwise.
RESERVED = frozenset({"HOME", "HOST", "PORT", "SESSION_ID", "TMPDIR"})


def agent_environment(settings: Settings) -> dict[str, str]:
    """What settings hand to every agent: provider keys, model, ENVIRONMENT, our address. What is not set is absent."""
    secrets = {
        "GEMINI_API_KEY": settings.agents.gemini_api_key,
        "OPENAI_API_KEY": settings.agents.openai_api_key,
        "ANTHROPIC_API_KEY": settings.agents.anthropic_api_key,
        "GOOGLE_API_KEY": settings.agents.google_api_key,
    }
    found = {name: secret.get_secret_value() for name, secret in secrets.items() if secret is not None}
    if settings.agents.gemini_model is not None:
        found["GEMINI_MODEL"] = settings.agents.gemini_model
    if settings.pods.front_door_url is not None:
        found["SESSION_MANAGER_URL"] = settings.pods.front_door_url
    return found | {"ENVIRONMENT": settings.agents.environment}


def pod_environment(
    session: str | None, port: int, home: Path, tmp: Path, session_class: SessionClass, agent_env: Mapping[str, str]
) -> dict[str, str]:
    """``python`` means ours: a class may say ``python agent.py`` and import ``session_manager.agent``.

    ``session`` None: the pod is not told whose it is, or will be.
    """
    ours = str(Path(sys.executable).parent)
    return {
        "PATH": os.pathsep.join([ours, *os.get_exec_path()]),
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
