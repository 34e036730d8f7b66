"""Every route with a foreign identity, with none, and with one that may."""

from __future__ import annotations

from uuid import uuid4

import pytest
from pydantic import SecretStr

from session_manager.api.identity import Identity, refuse_foreign_page
from session_manager.domain.errors import Forbidden, InvalidInput, Unauthenticated

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


def bearer(key: str, **more: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {key}", **more}


@pytest.fixture
async def guarded(start):
    return await start(session_api_keys=KEYS)


async def made_by_ada(front) -> str:
    status, body = await front.call("POST", "/session/create", {"user_id": "ada"}, headers=bearer(ADA))
    assert status == 201
    return body["uuid"]


async def test_no_route_of_a_session_answers_somebody_else(guarded):
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


async def test_open_paths_need_no_key_and_tell_little(guarded):
    for path in ("/livez", "/readyz", "/openapi.json"):
        assert (await guarded.call("GET", path))[0] == 200
    status, body = await guarded.call("GET", "/health")
    assert (status, body["session_storage_uri"]) == (200, "sqlite")
    _, body = await guarded.call("GET", "/health", headers=bearer(SERVICE))
    assert body["session_storage_uri"].startswith("sqlite:///")


async def test_a_user_may_not_name_another(guarded):
    for headers in (bearer(EVE), bearer(SERVICE, **{"X-User-Id": "eve"})):
        assert (await guarded.call("POST", "/session/create", {"user_id": "ada"}, headers=headers))[0] == 403
    assert (await guarded.call("GET", "/sessions", headers=bearer(EVE, **{"X-User-Id": "ada"})))[0] == 403


async def test_lists_show_only_what_is_ones_own(guarded):
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
        return Identity({"web": SecretStr(SERVICE), "ada-app@ada": SecretStr(ADA)}, "10.0.0.0/8")

    def test_a_service_acts_for_whom_it_names(self):
        headers = {b"authorization": b"bearer " + SERVICE.encode(), b"x-user-id": b" bob "}
        assert self.identity().actor(headers, "1.2.3.4").user == "bob"

    def test_bad_user_ids_are_refused(self):
        for bad in (b"", b"   ", b"a\x07b", b"x" * 129):
            with pytest.raises(InvalidInput):
                self.identity().actor({b"x-api-key": SERVICE.encode(), b"x-user-id": bad}, "")

    def test_a_bound_key_stays_bound(self):
        with pytest.raises(Forbidden):
            self.identity().actor({b"x-api-key": ADA.encode(), b"x-user-id": b"eve"}, "")

    def test_no_or_half_a_key(self):
        for headers in (
            {},
            {b"authorization": SERVICE.encode()},
            {b"authorization": b"Bearer " + SERVICE[:-1].encode()},
        ):
            with pytest.raises(Unauthenticated):
                self.identity().actor(headers, "")

    @pytest.mark.parametrize(
        ("peer", "forwarded", "expected"),
        [
            ("1.2.3.4", b"9.9.9.9", "1.2.3.4"),
            ("10.0.0.1", b"9.9.9.9", "9.9.9.9"),
            ("10.0.0.1", b"6.6.6.6, 9.9.9.9, 10.0.0.7", "9.9.9.9"),
            ("10.0.0.1", b"10.0.0.3", "10.0.0.3"),
        ],
    )
    def test_client_addresses_behind_proxies(self, peer, forwarded, expected):
        assert self.identity().client_address({b"x-forwarded-for": forwarded}, peer) == expected

    def test_two_users_of_a_key_count_apart(self):
        keys = {
            self.identity().actor({b"x-api-key": SERVICE.encode(), b"x-user-id": user}, "").limit_key("s")
            for user in (b"ada", b"bob")
        }
        assert len(keys) == 2


def test_foreign_pages():
    refuse_foreign_page({b"host": b"localhost:8080", b"origin": b"http://localhost:8080"})
    refuse_foreign_page({b"host": b"[::1]:8080"})
    for headers in (
        {b"host": b"localhost.evil.example"},
        {b"host": b""},
        {b"host": b"localhost:8080", b"origin": b"http://localhost:9090"},
    ):
        with pytest.raises(Forbidden):
            refuse_foreign_page(headers)
