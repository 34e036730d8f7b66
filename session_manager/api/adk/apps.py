"""ADK's routes about the server and its apps. An app is a SessionClass; sessions of others are of class default."""

from __future__ import annotations

import platform
from typing import Any

from fastapi import APIRouter, Depends, HTTPException

from session_manager import __version__
from session_manager.api.adk.bodies import Route
from session_manager.api.limits import RouteLimits
from session_manager.wiring.services import Services


def router(services: Services, limits: RouteLimits) -> APIRouter:
    routes = APIRouter(tags=["apps"], route_class=Route)
    reading = [Depends(limits.read)]

    @routes.get("/health")
    async def health() -> dict[str, str]:
        return {"status": "ok"}

    @routes.get("/version", dependencies=reading)
    async def version() -> dict[str, str]:
        return {"version": __version__, "language": "python", "language_version": platform.python_version()}

    @routes.get("/list-apps", dependencies=reading)
    async def list_apps(detailed: bool = False) -> list[str] | dict[str, Any]:
        """The SessionClasses."""
        apps = services.host.class_names()
        return {"apps": [_described(name) for name in apps]} if detailed else apps

    @routes.get("/apps/{app_name}/app-info", dependencies=reading)
    async def get_app_info(app_name: str) -> dict[str, Any]:
        """What is known of an app; its agents are known to its pods only."""
        if app_name not in services.host.class_names():
            raise HTTPException(404, "Agent not found")
        return _described(app_name)

    return routes


def _described(name: str) -> dict[str, Any]:
    return {
        "name": name,
        "rootAgentName": name,
        "description": "",
        "language": "python",
        "isComputerUse": False,
    }
