"""ADK's routes about the server and its apps. An app is a SessionClass; sessions of other apps have class default."""

from __future__ import annotations

import platform

from session_manager import __version__
from session_manager.api.call import CurrentCall
from session_manager.domain.errors import NotFound
from session_manager.domain.values import Json


async def health() -> dict[str, str]:
    return {"status": "ok"}


async def version() -> dict[str, str]:
    return {"version": __version__, "language": "python", "language_version": platform.python_version()}


async def list_apps(call: CurrentCall, detailed: bool = False) -> list[str] | Json:
    """The SessionClasses that the caller sees."""
    visible = call.caller.classes
    apps = [name for name in call.services.host.class_names() if visible is None or name in visible]
    return {"apps": [_described(name) for name in apps]} if detailed else apps


async def get_app_info(call: CurrentCall, app_name: str) -> Json:
    """The facts that a front door knows about an app. Only its pods know its agents."""
    if app_name not in call.services.host.class_names():
        raise NotFound
    return _described(app_name)


def _described(name: str) -> Json:
    return {
        "name": name,
        "rootAgentName": name,
        "description": "",
        "language": "python",
        "isComputerUse": False,
    }
