"""ADK's own server as the pod of a session, whose sessions Session Manager keeps.

A pod serves one session and answers 421 to requests for another. A turn reads and writes its session with the
``X-Session-Token`` of its request. Every answer says that the pod stores its events itself.
"""

from __future__ import annotations

import os
from pathlib import Path

import uvicorn
from google.adk.agents.base_agent import BaseAgent
from google.adk.apps.app import App
from google.adk.cli.fast_api import get_fast_api_app
from google.adk.cli.utils.agent_loader import AgentLoader
from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from session_manager.adk.client import use_token
from session_manager.adk.service import register
from session_manager.agent.server import DEFAULT_PORT, listen

SESSION_SERVICE = "session-manager://"


class AnyName(AgentLoader):
    """Serves the only agent of a folder under any name, since the name is that of the session's app."""

    def load_agent(self, agent_name: str) -> BaseAgent | App:
        names = self.list_agents()
        if len(names) != 1:
            return super().load_agent(agent_name)
        loaded = super().load_agent(names[0])
        # An App has a name of its own, so ADK does not check the name of the session's app.
        return loaded if isinstance(loaded, App) else App(name=names[0], root_agent=loaded)


class PodApp:
    """Restricts ``app`` to one session: ``session_id``, or the first that it sees if this is None."""

    def __init__(self, app: ASGIApp, session_id: str | None) -> None:
        self._app = app
        self._session_id = session_id

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        seen = headers.get("x-session-id")
        if seen:
            self._session_id = self._session_id or seen
        if seen and seen != self._session_id:
            await JSONResponse({"detail": "this pod belongs to another session"}, 421)(scope, receive, send)
            return
        with use_token(headers.get("x-session-token", "")):
            await self._app(scope, receive, _marked(send))


def _marked(send: Send) -> Send:
    async def marked(message: Message) -> None:
        if message["type"] == "http.response.start":
            MutableHeaders(scope=message)["X-Session-Events"] = "stored"
        await send(message)

    return marked


def build(agents_dir: str, session_id: str | None, artifacts: str | None, memory: str | None) -> PodApp:
    """Build the app. ``artifacts`` and ``memory`` are URIs of ADK services. Raises an error of the agent's own code."""
    loader = AnyName(agents_dir)
    names = loader.list_agents()
    if not names:
        raise FileNotFoundError(f"no agent in {agents_dir}; expected agent.py, or a folder with agent.py")
    if len(names) == 1:
        loader.load_agent(names[0])  # so that an error keeps the pod from starting, instead of failing every turn
    register()
    app = get_fast_api_app(
        agents_dir=agents_dir,
        agent_loader=loader,
        session_service_uri=SESSION_SERVICE,
        artifact_service_uri=artifacts,
        memory_service_uri=memory,
        web=False,
    )
    return PodApp(app, session_id)


def serve(agents_dir: str, artifacts: str | None = None, memory: str | None = None) -> None:
    """Serve on $HOST:$PORT until SIGTERM, then finish the running turn. By default artifacts are files in $HOME."""
    home = os.environ.get("HOME")
    if artifacts is None and home:
        artifacts = (Path(home).absolute() / "artifacts").as_uri()
    app = build(agents_dir, os.environ.get("SESSION_ID"), artifacts, memory)
    # Longer than the front door keeps an idle connection, so that none closes while a message is sent.
    config = uvicorn.Config(app, timeout_keep_alive=5)
    with listen(os.environ.get("HOST", ""), int(os.environ.get("PORT", DEFAULT_PORT))) as listener:
        uvicorn.Server(config).run(sockets=[listener])
