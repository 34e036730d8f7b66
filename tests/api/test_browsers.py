"""The headers of every answer for browsers, pages of other origins, and types of bodies."""

from __future__ import annotations

import gzip
import json
from typing import Any

import pytest

from session_manager.domain.errors import StartupFailure
from session_manager.settings import Settings
from tests.servers.front import FrontDoor

KEY = "service-key-0123456789"
BEARER = {"Authorization": f"Bearer {KEY}"}
ORIGIN, OTHER = "https://app.example", "http://localhost:3000"
STANDARD = {
    "X-Content-Type-Options": "nosniff",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
}
FOREIGN = [
    "https://evil.example",
    "http://app.example",
    "https://app.example.evil.example",
    "https://app.example:8443",
    "https://app.example/",
    "HTTPS://APP.EXAMPLE",
    "https://app.example, https://evil.example",
    "null",
    "*",
    "",
]


@pytest.fixture
async def door(start: Any) -> FrontDoor:
    return await start(session_api_keys=f"web:{KEY}", cors_origins=f"{ORIGIN}, {OTHER}")


async def ask(door: FrontDoor, method: str, path: str, body: Any = None, **headers: str) -> tuple[int, Any]:
    async with door.client.request(method, door.url + path, json=body, headers=headers) as response:
        return response.status, response.headers


def preflight(origin: str) -> dict[str, str]:
    asked = {"Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "authorization,content-type"}
    return {"Origin": origin, **asked}


async def test_every_answer_has_the_standard_headers_once(door: FrontDoor):
    session = (await door.call("POST", "/session/create", {"user_id": "ada"}, headers=BEARER))[1]["uuid"]
    asked = [
        ("GET", "/livez", None, 200),
        ("GET", "/adk/health", None, 200),
        ("GET", "/openapi.json", None, 200),
        ("GET", "/sessions", None, 200),
        ("HEAD", "/sessions", None, 200),
        ("GET", "/adk/list-apps", None, 200),
        ("GET", f"/session/{session}/logs", None, 200),
        ("GET", "/metrics", None, 200),
        ("POST", f"/session/{session}/chat", {"message": "x"}, 202),
        ("POST", f"/session/{session}/chat", {}, 400),
        ("GET", "/nothing", None, 404),
        ("PUT", "/livez", None, 405),
        ("OPTIONS", "/livez", None, 204),
    ]
    for method, path, body, expected in asked:
        headers = {**BEARER, "Prefer": "wait=0"} if method == "POST" else BEARER
        status, given = await ask(door, method, path, body, **headers)
        assert status == expected, path
        for name, value in STANDARD.items():
            assert given.getall(name) == [value], (path, name)


async def test_streams_have_them_too(door: FrontDoor):
    session = (await door.call("POST", "/session/create", {"user_id": "ada"}, headers=BEARER))[1]["uuid"]
    headers = {**BEARER, "Origin": ORIGIN}
    async with door.client.get(f"{door.url}/session/{session}/events", headers=headers) as response:
        assert response.headers.getall("Cache-Control") == ["no-store"]
        assert response.headers["X-Content-Type-Options"] == "nosniff"
        assert response.headers["Access-Control-Allow-Origin"] == ORIGIN


@pytest.mark.parametrize("path", ["/session/create", "/adk/run", "/livez", "/nothing"])
@pytest.mark.parametrize("origin", [ORIGIN, OTHER])
async def test_a_page_of_a_listed_origin_may_ask_before_it_sends(door: FrontDoor, path: str, origin: str):
    status, headers = await ask(door, "OPTIONS", path, **preflight(origin))
    assert (status, headers["Access-Control-Allow-Origin"], headers["Vary"]) == (204, origin, "Origin")
    assert {"GET", "POST", "PATCH", "DELETE"} <= set(headers["Access-Control-Allow-Methods"].split(", "))
    sent = {each.lower() for each in headers["Access-Control-Allow-Headers"].split(", ")}
    assert {"authorization", "content-type", "idempotency-key", "prefer", "last-event-id", "x-user-id"} <= sent
    assert "Access-Control-Allow-Credentials" not in headers


@pytest.mark.parametrize(
    ("method", "path", "headers", "expected"),
    [
        ("GET", "/sessions", BEARER, 200),
        ("GET", "/sessions", {}, 401),
        ("GET", "/nothing", BEARER, 404),
        ("PUT", "/sessions", BEARER, 405),
        ("POST", "/session/create", BEARER, 415),
    ],
)
async def test_a_page_of_a_listed_origin_may_read_every_answer(door, method, path, headers, expected):
    async with door.client.request(
        method, door.url + path, data=b"x", headers={**headers, "Origin": ORIGIN}
    ) as response:
        assert response.status == expected
        assert response.headers["Access-Control-Allow-Origin"] == ORIGIN
        assert "Location" in response.headers["Access-Control-Expose-Headers"]


async def test_a_page_of_a_listed_origin_may_read_a_failure(door: FrontDoor, monkeypatch: Any):
    async def broken(*args: Any) -> None:
        raise RuntimeError

    monkeypatch.setattr(door.services.store, "list_sessions", broken)
    status, headers = await ask(door, "GET", "/sessions", **BEARER, Origin=ORIGIN)
    assert (status, headers["Access-Control-Allow-Origin"]) == (500, ORIGIN)


@pytest.mark.parametrize("origin", FOREIGN)
async def test_other_origins_are_not_mentioned(door: FrontDoor, origin: str):
    status, headers = await ask(door, "OPTIONS", "/sessions", **preflight(origin))
    assert (status, headers["Vary"]) == (401, "Origin")
    _, answered = await ask(door, "GET", "/sessions", **BEARER, Origin=origin)
    assert not [name for name in [*headers, *answered] if name.lower().startswith("access-control-")]


async def test_without_the_setting_no_origin_is_allowed(start: Any):
    door = await start(session_api_keys=f"web:{KEY}")
    status, headers = await ask(door, "OPTIONS", "/sessions", **preflight(ORIGIN))
    assert status == 401
    assert "Vary" not in headers
    assert not [name for name in headers if name.lower().startswith("access-control-")]


async def test_without_keys_a_listed_origin_may_call_this_machine(start: Any):
    door = await start(cors_origins=OTHER)
    page = {"Origin": OTHER, "Sec-Fetch-Site": "same-site", "Sec-Fetch-Mode": "cors"}
    assert (await ask(door, "POST", "/session/create", {"user_id": "ada"}, **page))[0] == 201
    assert (await ask(door, "OPTIONS", "/session/create", **preflight(OTHER)))[0] == 204
    for headers in ({**page, "Origin": ORIGIN}, {**page, "Host": "rebound.example"}, {**page, "Origin": "null"}):
        assert (await ask(door, "POST", "/session/create", {"user_id": "ada"}, **headers))[0] == 403


@pytest.mark.parametrize(
    "written",
    [
        "*",
        "null",
        "https://*.example",
        "app.example",
        "https://app.example/",
        "https://app.example/path",
        "https://App.example",
        "https://app.example:443",
        "http://app.example:80",
        "https://app.example:0",
        "https://app.example:99999",
        "https://user@app.example",
        "https://bücher.example",
        "ftp://app.example",
        "https://a.example https://b.example",
    ],
)
def test_an_origin_that_no_browser_sends_ends_the_start(written: str):
    with pytest.raises(StartupFailure, match=r"^CORS_ORIGINS: invalid list of origins"):
        Settings.from_environment(cors_origins=written)


def test_origins_as_browsers_send_them():
    written = "https://app.example,http://localhost:3000, https://[::1]:8443,https://xn--bcher-kva.example:444"
    assert len(Settings.from_environment(cors_origins=written).server.cors_origins) == 4


CREATE = b'{"user_id": "ada"}'


@pytest.mark.parametrize(
    ("headers", "body", "detail"),
    [
        (
            {"Content-Encoding": "gzip"},
            gzip.compress(CREATE, mtime=0),
            "Content-Encoding: must not be set; send the body as it is",
        ),
        ({"Content-Encoding": "br"}, CREATE, "Content-Encoding: must not be set; send the body as it is"),
        ({"Content-Encoding": "deflate"}, CREATE, "Content-Encoding: must not be set; send the body as it is"),
        ({"Content-Type": "application/json; charset=latin-1"}, CREATE, "Content-Type: the charset must be UTF-8"),
        ({"Content-Type": "text/plain"}, CREATE, "Content-Type: must be application/json"),
        ({"Content-Type": "text/json"}, CREATE, "Content-Type: must be application/json"),
        ({"Content-Type": "application/x-www-form-urlencoded"}, CREATE, "Content-Type: must be application/json"),
        ({"Content-Type": "multipart/form-data; boundary=x"}, CREATE, "Content-Type: must be application/json"),
        ({"Content-Type": "text/plain; a=application/json"}, CREATE, "Content-Type: must be application/json"),
        ({"Content-Type": ""}, CREATE, "Content-Type: must be application/json"),
        ({"Content-Type": "application/json/x+json"}, CREATE, "Content-Type: must be application/json"),
        (
            {"Content-Type": 'application/json; x="; charset=utf-8"; charset=latin-1'},
            CREATE,
            "Content-Type: the charset must be UTF-8",
        ),
        (
            {"Content-Type": "application/json; charset*=iso-8859-1''x"},
            CREATE,
            "Content-Type: the charset must be UTF-8",
        ),
        (
            {"Content-Type": "application/json; x=" + "a" * 240},
            CREATE,
            "Content-Type: must be application/json in at most 256 bytes",
        ),
    ],
)
@pytest.mark.parametrize("path", ["/session/create", "/session/{}/chat", "/session/{}/wake", "/adk/run"])
async def test_a_body_of_another_kind_is_415(front: FrontDoor, path: str, headers: Any, body: bytes, detail: str):
    headers = {"Content-Type": "application/json", **headers}
    url = front.url + path.format(await front.create())
    async with front.client.post(url, data=body, headers=headers) as response:
        assert response.status == 415
        assert json.loads(await response.text())["detail"] == detail
        assert (response.headers["Accept"], response.headers["Accept-Encoding"]) == ("application/json", "identity")


@pytest.mark.parametrize(
    "kind",
    [
        "application/json",
        "Application/JSON",
        "application/json; charset=UTF-8",
        'application/json;charset="utf-8"',
        "application/vnd.api+json",
    ],
)
async def test_spellings_of_json(front: FrontDoor, kind: str):
    async with front.client.post(
        f"{front.url}/session/create", data=CREATE, headers={"Content-Type": kind, "Content-Encoding": "identity"}
    ) as response:
        assert response.status == 201


async def test_no_body_is_of_no_kind(front: FrontDoor):
    async with front.client.post(
        f"{front.url}/session/{await front.create()}/wake", headers={"Content-Type": "text/plain"}
    ) as response:
        assert response.status == 200


@pytest.mark.parametrize("path", ["/session/create", "/session/{}/chat"])
async def test_a_body_in_another_charset_is_not_utf8(front: FrontDoor, path: str):
    body = '{"message": "ü", "user_id": "ü"}'.encode("latin-1")
    url, headers = front.url + path.format(await front.create()), {"Content-Type": "application/json"}
    async with front.client.post(url, data=body, headers=headers) as response:
        assert (response.status, (await response.json(content_type=None))["detail"]) == (400, "the body is not UTF-8")
