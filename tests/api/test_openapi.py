"""The OpenAPI document, compared with the server: it is complete, and no request that fits it crashes the server."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import Any

import schemathesis
from hypothesis import HealthCheck, Phase, given, settings

ROUTES = {
    "/session/create",
    "/session/{session_id}",
    "/session/{session_id}/status",
    "/session/{session_id}/wake",
    "/session/{session_id}/chat",
    "/session/{session_id}/sleep",
    "/session/{session_id}/logs",
    "/session/{session_id}/events",
    "/session/{session_id}/messages",
    "/session/{session_id}/messages/{message_id}",
    "/session/{session_id}/messages/{message_id}/cancel",
    "/sessions",
    "/usage",
    "/health",
    "/livez",
    "/readyz",
    "/metrics",
    "/admin/backups",
    "/admin/backups/{name}",
    "/admin/backups/{name}/verify",
}


async def test_the_document_names_every_route_and_error(front):
    _, document = await front.call("GET", "/openapi.json")
    assert set(document["paths"]) == ROUTES
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            assert {"400", "401", "404", "429", "503"} <= set(operation["responses"]), (method, path)
            assert operation.get("description") or operation.get("summary")
    for name, schema in document["components"]["schemas"].items():
        for field, described in schema.get("properties", {}).items():
            shown = described.keys() & {"examples", "default", "items", "const"}
            assert shown, f"{name}.{field} has no example"
    async with front.client.get(front.url + "/docs") as response:
        assert response.status == 200


async def test_nothing_crashes_the_server(front):
    session = await front.create()
    await asyncio.to_thread(_attack, front.url, session)
    assert (await front.call("GET", "/readyz"))[0] == 200


def _attack(url: str, session: str) -> None:
    """Fifteen requests for each operation, as the document allows them; streams of events would not end."""
    schema = schemathesis.openapi.from_url(f"{url}/openapi.json")
    for result in schema.exclude(path_regex="/events$").get_all_operations():
        operation: Any = result.ok()  # type: ignore[union-attr]
        tried: Counter[int] = Counter()
        _requests_for(operation, session, tried)()
        assert sum(tried.values()) >= 15 or not operation.path_parameters, (operation.label, tried)


def _requests_for(operation, session: str, tried: Counter):
    @given(case=operation.as_strategy())
    @settings(
        max_examples=15,
        deadline=None,
        derandomize=True,
        database=None,
        suppress_health_check=list(HealthCheck),
        phases=[Phase.generate],
    )
    def attack(case):
        if "session_id" in (case.path_parameters or {}) and operation.method != "delete":
            case.path_parameters["session_id"] = session
        response = case.call(timeout=30)
        tried[response.status_code] += 1
        assert response.status_code < 500 or response.status_code == 503, response.text

    return attack
