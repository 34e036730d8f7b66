"""An API server with prepared answers: lists, misbehaving watches, errors."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from kubernetes.aio import config

Script = Callable[[web.StreamResponse], Awaitable[None]]


async def hold(_: web.StreamResponse) -> None:
    await asyncio.sleep(60)


def tell(*events: tuple[str, dict[str, Any]], then: Script | None = None) -> Script:
    async def play(response: web.StreamResponse) -> None:
        for kind, thing in events:
            await response.write(json.dumps({"type": kind, "object": thing}).encode() + b"\n")
        if then is not None:
            await then(response)

    return play


class ApiServer:
    """Lists ``pods``, or the objects in ``lists_of`` for the kind. Each watch plays the next of ``watches``.

    ``served``: the kinds of a group's v1alpha1, or None if the group does not exist.
    """

    def __init__(self) -> None:
        self.pods: list[dict[str, Any]] = []
        self.lists_of: dict[str, list[dict[str, Any]]] = {}
        self.watches: list[Script] = [hold]
        self.watches_of: dict[str, Script] = {}
        self.lists = 0
        self.refusal: tuple[int, Any] | None = None
        self.refusals_of: dict[str, tuple[int, Any]] = {}
        self.served: list[str] | None = None
        self.patched: list[tuple[str, Any]] = []
        self.deleted: list[str] = []

    async def handle(self, request: web.Request) -> web.StreamResponse:
        refusal = self.refusals_of.get(request.path.rpartition("/")[2], self.refusal)
        if refusal is not None:
            status, body = refusal
            return web.Response(status=status, text=body if isinstance(body, str) else json.dumps(body))
        if request.method == "PATCH":
            return web.json_response(self._patch(request.path.rpartition("/")[2], request.path, await request.json()))
        if request.method == "DELETE":
            self.deleted.append(request.path.rpartition("/")[2])
            return web.json_response({})
        if request.path.endswith("/v1alpha1"):
            if self.served is None:
                return web.Response(status=404, text="{}")
            return web.json_response({"resources": [{"name": name} for name in self.served]})
        if "watch" not in request.query:
            self.lists += 1
            found = self.lists_of.get(request.path.rpartition("/")[2], self.pods)
            return web.json_response({"items": found, "metadata": {"resourceVersion": "1"}})
        play = self.watches_of.get(request.path.rpartition("/")[2])
        if play is None:
            play = self.watches.pop(0) if len(self.watches) > 1 else self.watches[0]
        response = web.StreamResponse()
        await response.prepare(request)
        await play(response)
        return response

    def _patch(self, last: str, path: str, patch: Any) -> dict[str, Any]:
        """Note the patch. Return the object with it, if the server lists one of this name."""
        self.patched.append((last, patch))
        known = (each for listed in self.lists_of.values() for each in listed)
        found = next((each for each in known if each["metadata"]["name"] in path.split("/")), None)
        return {} if found is None else {**found, "status": patch.get("status", {})}


@asynccontextmanager
async def api_server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[ApiServer]:
    """Run a server that clients find through their usual configuration."""
    server = ApiServer()
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", server.handle)
    runner = web.AppRunner(app, shutdown_timeout=0, handler_cancellation=True)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    port = runner.addresses[0][1]
    kubeconfig = {
        "clusters": [{"name": "c", "cluster": {"server": f"http://127.0.0.1:{port}"}}],
        "users": [{"name": "u", "user": {}}],
        "contexts": [{"name": "x", "context": {"cluster": "c", "user": "u"}}],
        "current-context": "x",
    }
    file = tmp_path / "kubeconfig"
    file.write_text(json.dumps(kubeconfig))
    monkeypatch.setattr(config, "KUBE_CONFIG_DEFAULT_LOCATION", str(file))
    monkeypatch.setattr(config.kube_config, "KUBE_CONFIG_DEFAULT_LOCATION", str(file))
    yield server
    await runner.cleanup()
