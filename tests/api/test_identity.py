"""Routes with a foreign identity, without one, and with the right one."""

from __future__ import annotations

import asyncio
from uuid import uuid4

import pytest
from multidict import CIMultiDict
from yarl import URL

from session_manager.domain.errors import Forbidden, InvalidInput, Unauthenticated
from session_manager.people.identity import Identity, header_map, reject_foreign_page
from session_manager.people.tokens import Tokens
from session_manager.settings.kinds import networks
from session_manager.settings.server import api_keys

SERVICE = "service-key-0123456789"
ADA = "adas-own-key-0123456789"
EVE = "eves-own-key-0123456789"
KEYS = f"web:{SERVICE},ada-app@ada:{ADA},eve-app@eve:{EVE}"

OF_A_SESSION = [
    ("GET", "", None),
    ("GET", "/status", None),
    ("PATCH", "", {"name": "mine"}),
    ("POST", "/wake", None),
    ("POST", "/sleep", None),
    ("POST", "/chat", {"message": "hello"}),
    ("GET", "/messages", None),
    ("GET", f"/messages/{uuid4()}", None),
    ("POST", f"/messages/{uuid4()}/cancel", None),
    ("GET", "/events", None),
    ("GET", "/logs", None),
    ("DELETE", "", None),
]


def tokens() -> Tokens:
    async def secret() -> str:
        return "secret"

    return Tokens(secret)


def bearer(key: str, **more: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {key}", **more}


@pytest.fixture
async def guarded(start):
    return await start(session_api_keys=KEYS)


async def made_by_ada(front) -> str:
    status, body = await front.call("POST", "/session/create", {"user_id": "ada"}, headers=bearer(ADA))
    assert status == 201
    return body["uuid"]


async def test_no_route_of_a_session_answers_another_user(guarded):
    session = await made_by_ada(guarded)
    for foreign in (bearer(EVE), bearer(SERVICE, **{"X-User-Id": "eve"})):
        for method, path, body in OF_A_SESSION:
            status, problem = await guarded.call(method, f"/session/{session}{path}", body, headers=foreign)
            assert status == 404, (method, path, problem)
    status, body = await guarded.call("GET", f"/session/{session}", headers=bearer(ADA))
    assert (status, body["queue_length"], body["name"]) == (200, 0, None)


async def test_no_route_answers_without_a_key(guarded):
    session = await made_by_ada(guarded)
    routes = [(method, f"/session/{session}{path}", body) for method, path, body in OF_A_SESSION]
    routes += [("POST", "/session/create", {"user_id": "ada"}), ("GET", "/sessions", None), ("GET", "/metrics", None)]
    for headers in ({}, bearer("no-such-key-0123456789"), {"X-API-Key": "nor-this-0123456789"}):
        for method, path, body in routes:
            status, problem = await guarded.call(method, path, body, headers=headers)
            assert status == 401, (method, path)
            assert problem["detail"]


async def test_open_paths_need_no_key_and_reveal_little(guarded):
    for path in ("/livez", "/readyz", "/openapi.json"):
        assert (await guarded.call("GET", path))[0] == 200
    status, body = await guarded.call("GET", "/health")
    assert (status, body["session_storage_uri"]) == (200, "sqlite")
    for user in (bearer(ADA), bearer(SERVICE, **{"X-User-Id": "eve"})):
        assert (await guarded.call("GET", "/health", headers=user))[1]["session_storage_uri"] == "sqlite"
    _, body = await guarded.call("GET", "/health", headers=bearer(SERVICE))
    assert body["session_storage_uri"].startswith("sqlite:///")


async def test_simultaneous_health_checks_share_one_ping(guarded, monkeypatch):
    asked, most = 0, 0
    ping = guarded.services.store.ping

    async def counted() -> None:
        nonlocal asked, most
        asked += 1
        most = max(most, asked)
        await ping()
        asked -= 1

    monkeypatch.setitem(guarded.services.health.checks, "database", counted)
    answers = await asyncio.gather(*(guarded.call("GET", path) for path in ["/readyz", "/health"] * 50))
    assert {status for status, _ in answers} == {200}
    assert most == 1


async def test_a_user_may_not_name_another(guarded):
    for headers in (bearer(EVE), bearer(SERVICE, **{"X-User-Id": "eve"})):
        assert (await guarded.call("POST", "/session/create", {"user_id": "ada"}, headers=headers))[0] == 403
    assert (await guarded.call("GET", "/sessions", headers=bearer(EVE, **{"X-User-Id": "ada"})))[0] == 403


async def test_lists_show_only_the_callers_own_sessions(guarded):
    await made_by_ada(guarded)
    for path in ("/sessions", "/sessions?user_id=ada", "/sessions?status=created"):
        _, body = await guarded.call("GET", path, headers=bearer(EVE))
        assert (body["total"], body["sessions"]) == (0, [])
    _, body = await guarded.call("GET", "/sessions?user_id=ada", headers=bearer(SERVICE))
    assert body["total"] == 1


async def test_an_idempotency_key_is_the_callers_own(guarded):
    status, body = await guarded.call("POST", "/session/create", {"user_id": "ada"}, headers=bearer(SERVICE))
    path = f"/session/{body['uuid']}/chat"
    key = {"Idempotency-Key": "k", "Prefer": "wait=20"}
    _, one = await guarded.call("POST", path, {"message": "a"}, headers=bearer(SERVICE, **key))
    status, other = await guarded.call("POST", path, {"message": "b"}, headers=bearer(ADA, **key))
    assert status == 200
    assert one["message_id"] != other["message_id"]


async def test_without_keys_only_this_machine_is_answered(front):
    status, body = await front.call("GET", "/sessions", headers={"Host": "evil.example"})
    assert (status, body["status"]) == (403, 403)
    assert (await front.call("GET", "/sessions", headers={"Origin": "https://evil.example"}))[0] == 403
    assert (await front.call("GET", "/sessions", headers={"Origin": front.url}))[0] == 200
    assert (await front.call("GET", "/sessions", headers={"Origin": "null"}))[0] == 403


class TestIdentity:
    def identity(self) -> Identity:
        return Identity(api_keys(f"web:{SERVICE},ada-app@ada:{ADA}"), networks("10.0.0.0/8"), tokens())

    def test_a_service_acts_for_the_user_it_names(self):
        headers = {b"authorization": b"bearer " + SERVICE.encode(), b"x-user-id": b" bob "}
        assert self.identity().keyed(headers, "1.2.3.4").user == "bob"

    def test_bad_user_ids_are_rejected(self):
        for bad in (b"", b"   ", b"a\x07b", b"x" * 129, b"\xff", "a\u202eb".encode()):
            with pytest.raises(InvalidInput):
                self.identity().keyed({b"x-api-key": SERVICE.encode(), b"x-user-id": bad}, "")

    def test_a_bound_key_stays_bound(self):
        with pytest.raises(Forbidden):
            self.identity().keyed({b"x-api-key": ADA.encode(), b"x-user-id": b"eve"}, "")

    def test_a_missing_or_half_a_key(self):
        for headers in (
            {},
            {b"authorization": SERVICE.encode()},
            {b"authorization": b"Bearer " + SERVICE[:-1].encode()},
        ):
            with pytest.raises(Unauthenticated):
                self.identity().keyed(headers, "")

    @pytest.mark.parametrize(
        ("peer", "forwarded", "expected"),
        [
            ("1.2.3.4", b"9.9.9.9", "1.2.3.4"),
            ("10.0.0.1", b"9.9.9.9", "9.9.9.9"),
            ("10.0.0.1", b"6.6.6.6, 9.9.9.9, 10.0.0.7", "9.9.9.9"),
            ("::ffff:10.0.0.1", b"9.9.9.9", "9.9.9.9"),
        ],
    )
    def test_client_addresses_behind_proxies(self, peer, forwarded, expected):
        assert self.identity().client_address({b"x-forwarded-for": forwarded}, peer) == expected

    def test_two_users_of_a_key_count_apart(self):
        keys = {
            self.identity().keyed({b"x-api-key": SERVICE.encode(), b"x-user-id": user}, "").limit_key("s")
            for user in (b"ada", b"bob")
        }
        assert len(keys) == 2


def test_foreign_pages():
    reject_foreign_page({b"host": b"localhost:8080", b"origin": b"http://localhost:8080"})
    reject_foreign_page({b"host": b"[::1]:8080"})
    reject_foreign_page({b"host": b"localhost", b"sec-fetch-site": b"same-origin", b"sec-fetch-mode": b"cors"})
    reject_foreign_page({b"host": b"localhost", b"sec-fetch-site": b"cross-site", b"sec-fetch-mode": b"navigate"})
    for headers in (
        {b"host": b"localhost.evil.example"},
        {b"host": b""},
        {b"host": b"localhost:8080", b"origin": b"http://localhost:9090"},
        {b"host": b"localhost:8080", b"sec-fetch-site": b"same-site", b"sec-fetch-mode": b"no-cors"},
        {b"host": b"localhost:8080", b"sec-fetch-site": b"cross-site", b"sec-fetch-mode": b"no-cors"},
    ):
        with pytest.raises(Forbidden):
            reject_foreign_page(headers)


@pytest.mark.parametrize("name", [b"authorization", b"x-api-key", b"x-user-id", b"host", b"origin"])
def test_headers_of_identity_must_not_be_repeated(name):
    assert header_map([(name, b"a"), (b"accept", b"b")]) == {name: b"a", b"accept": b"b"}
    with pytest.raises(InvalidInput):
        header_map([(name, b"a"), (b"accept", b"b"), (name, b"a")])


def test_lists_may_come_in_several_headers():
    forwarded = header_map([(b"x-forwarded-for", b"6.6.6.6"), (b"x-forwarded-for", b"9.9.9.9, 10.0.0.7")])
    identity = Identity((), networks("10.0.0.0/8"), tokens())
    assert identity.client_address(forwarded, "10.0.0.1") == "9.9.9.9"


async def test_two_users_in_one_request_are_rejected(guarded):
    session = await made_by_ada(guarded)
    for name, values in (("X-User-Id", ("eve", "ada")), ("Authorization", (f"Bearer {EVE}", f"Bearer {ADA}"))):
        headers = [(name, each) for each in values] + ([("X-API-Key", SERVICE)] if name == "X-User-Id" else [])
        async with guarded.client.get(f"{guarded.url}/session/{session}", headers=CIMultiDict(headers)) as response:
            assert response.status == 400
            assert (await response.json(content_type=None))["detail"].endswith("header must not be repeated")


@pytest.mark.parametrize("path", ["/session/{}/chat%0A", "/session/{}%0A", "/session/{}/chat/", "//session/{}/chat"])
async def test_a_path_has_one_spelling(guarded, path):
    session = await made_by_ada(guarded)
    url = URL(guarded.url + path.format(session), encoded=True)
    method = "POST" if "chat" in path else "GET"
    body = {"message": "x"} if method == "POST" else None
    async with guarded.client.request(method, url, json=body, headers=bearer(ADA), allow_redirects=False) as response:
        assert response.status in {400, 404}


async def test_spellings_of_an_id_are_one_session(guarded):
    session = await made_by_ada(guarded)
    for spelled in (session.upper(), f"%{ord(session[0]):02x}{session[1:]}"):
        for key, expected in ((ADA, 200), (EVE, 404)):
            url = URL(f"{guarded.url}/session/{spelled}", encoded=True)
            async with guarded.client.get(url, headers=bearer(key)) as response:
                assert response.status == expected


async def test_the_cursor_of_another_user_opens_nothing(guarded):
    for _ in range(2):
        await made_by_ada(guarded)
    _, page = await guarded.call("GET", "/sessions?limit=1", headers=bearer(ADA))
    _, body = await guarded.call("GET", f"/sessions?cursor={page['next_cursor']}", headers=bearer(EVE))
    assert (body["total"], body["sessions"]) == (0, [])


async def test_an_address_that_a_stranger_claims_is_ignored(start):
    door = await start(session_api_keys=KEYS, rate_limit_default="2/minute")
    claimed = [{"X-Forwarded-For": f"9.9.9.{number}"} for number in range(4)]
    statuses = [(await door.call("GET", "/health", headers=headers))[0] for headers in claimed]
    assert statuses == [200, 200, 429, 429]
