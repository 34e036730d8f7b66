"""Backups over HTTP, for admins only."""

from __future__ import annotations

import pytest

from tests.waiting import until

KEY, BOUND = "correct-horse-battery", "staple-staple-staple"
UNKNOWN = "20200101T000000Z-00000000"


@pytest.fixture
def bucket(tmp_path) -> str:
    return f"file://{tmp_path}/bucket"


@pytest.fixture
async def begun(start, bucket):
    """Start a front door that has the database to itself, with more settings."""

    async def begin(**settings):
        front = await start(storage_bucket=bucket, backup_interval=3600.0, **settings)

        async def ready() -> bool:
            return (await front.call("GET", "/readyz"))[0] == 200

        await until(ready)
        return front

    return begin


@pytest.fixture
async def front(begun):
    return await begun()


async def done(front, path: str) -> dict:
    async def look():
        status, body = await front.call("GET", path)
        assert status == 200, body
        return body if body["status"] != "running" else None

    return await until(look)


async def first(front) -> dict:
    async def look():
        _, body = await front.call("GET", "/admin/backups")
        return body["backups"] and body["backups"][0]["status"] == "done" and body["backups"][0]

    return await until(look)


async def test_a_backup_is_made_listed_and_verified(front):
    await first(front)
    session = await front.create()
    await front.chat(session, "hello")
    async with front.client.post(front.url + "/admin/backups") as response:
        assert response.status == 202
        begun = await response.json()
        assert response.headers["Location"] == f"/admin/backups/{begun['name']}"
    made = await done(front, f"/admin/backups/{begun['name']}")
    assert made["status"] == "done"
    assert made["rows"]["session"] == 1
    assert (made["engine"], made["encrypted"]) == ("sqlite", False)
    status, verdict = await front.call("POST", f"/admin/backups/{made['name']}/verify")
    assert (status, verdict) == (200, {"name": made["name"], "good": True, "error": None})
    _, listed = await front.call("GET", "/admin/backups")
    assert listed["backups"][0]["name"] == made["name"]
    assert len(listed["backups"]) == 2


async def test_a_damaged_backup_is_reported(front, tmp_path):
    name = (await first(front))["name"]
    data = tmp_path / "bucket" / "session_backups" / f"{name}.zst"
    data.write_bytes(data.read_bytes()[:-1])
    status, verdict = await front.call("POST", f"/admin/backups/{name}/verify")
    assert (status, verdict["good"]) == (200, False)
    assert str(tmp_path) not in verdict["error"]


async def test_an_unknown_backup(front):
    assert (await front.call("GET", f"/admin/backups/{UNKNOWN}"))[0] == 404
    assert (await front.call("POST", f"/admin/backups/{UNKNOWN}/verify"))[0] == 404
    assert (await front.call("GET", "/admin/backups/..%2F..%2Fetc"))[0] in (400, 404)


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"X-API-Key": KEY}, 200),
        ({"X-API-Key": KEY, "X-User-Id": "ada"}, 403),
        ({"X-API-Key": BOUND}, 403),
        ({"X-API-Key": "wrong-wrong-wrong-wrong"}, 401),
        ({}, 401),
    ],
    ids=["service", "service for a user", "bound key", "wrong key", "nobody"],
)
async def test_only_admins_may(begun, headers: dict[str, str], status: int):
    front = await begun(session_api_keys=f"ops:{KEY},ada@ada:{BOUND}")
    assert (await front.call("GET", "/admin/backups", headers=headers))[0] == status
    if status != 200:
        for method, path in (("POST", ""), ("GET", f"/{UNKNOWN}"), ("POST", f"/{UNKNOWN}/verify")):
            assert (await front.call(method, f"/admin/backups{path}", headers=headers))[0] == status


async def test_without_a_bucket_it_is_a_conflict(start):
    front = await start()
    for method, path in (("GET", ""), ("POST", ""), ("GET", f"/{UNKNOWN}")):
        status, problem = await front.call(method, f"/admin/backups{path}")
        assert status == 409
        assert "off" in problem["detail"]


async def test_health_and_metrics_show_backups(front, bucket):
    made = await first(front)
    _, health = await front.call("GET", "/health")
    assert health["session_storage_bucket"] == bucket
    async with front.client.get(front.url + "/metrics", headers={"Accept": "text/plain"}) as response:
        text = await response.text()
    assert f"session_manager_backup_size_bytes {float(made['stored_size'])}" in text
    assert "session_manager_backup_failures_total 0.0" in text
    assert "session_manager_backup_age_seconds" in text
