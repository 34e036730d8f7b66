"""ADK's list of sessions: whole, as its clients expect it, or by pages."""

from __future__ import annotations

import asyncio

from yarl import URL

from session_manager.domain.adk.model import AdkKey, NewAdkSession
from tests.store.databases import DAY, new_id

S = "/apps/echo/users/ada/sessions"
MANY = 10_000


async def fill(front, count: int, user: str = "ada") -> list[str]:
    """Ids of sessions, made at once and so in any order."""
    ids = [f"s{number:05}" for number in range(count)]
    for start in range(0, count, 500):
        new = (
            NewAdkSession(new_id(), AdkKey("echo", user, each), "default", DAY, {"n": each})  # type: ignore[arg-type]
            for each in ids[start : start + 500]
        )
        await asyncio.gather(*map(front.services.store.adk_create, new))
    return ids


async def page(front, path: str):
    async with front.client.get(URL(front.url + path, encoded=True)) as response:
        assert response.status == 200, await response.text()
        return await response.json(), response.headers.get("X-Next-Cursor"), response.links


async def test_ten_thousand(start):
    front = await start(sessions_per_user=MANY)
    ids = await fill(front, MANY)
    await fill(front, 1, user="bob")
    everything, cursor, _ = await page(front, S)
    assert (sorted(each["id"] for each in everything), cursor) == (ids, None)
    assert everything == sorted(everything, key=lambda each: (each["lastUpdateTime"], each["id"]))
    paged, path = [], f"{S}?limit=500"
    while path:
        rows, cursor, links = await page(front, path)
        assert bool(cursor) == bool(links)
        paged += rows
        path = str(links["next"]["url"].relative()) if links else ""
    assert paged == everything


async def test_pages_and_filters(ours):
    for number in range(5):
        await ours.call("POST", S, {"sessionId": f"s{number}"})
    await ours.call("POST", "/apps/echo/users/bob/sessions", {"sessionId": "s0"})
    await ours.call("POST", S, {"sessionId": "adk-eval-session-x"})
    await ours.call("PATCH", f"{S}/s1", {"stateDelta": {"a": 1}})
    rows, _, _ = await page(ours, S)
    assert [each["id"] for each in rows] == ["s0", "s2", "s3", "s4", "s1"]
    assert all(each["events"] == [] for each in rows)
    since = rows[2]["lastUpdateTime"]
    later, _, _ = await page(ours, f"{S}?updated_since={since!r}")
    assert [each["id"] for each in later] == ["s3", "s4", "s1"]
    earlier, _, _ = await page(ours, f"{S}?updated_before={since!r}")
    assert [each["id"] for each in earlier] == ["s0", "s2"]
    first, cursor, _ = await page(ours, f"{S}?limit=1&updated_since={since!r}")
    second, cursor, _ = await page(ours, f"{S}?limit=1&updated_since={since!r}&cursor={cursor}")
    assert [each["id"] for each in first + second] == ["s3", "s4"]
    assert cursor
    last, cursor, _ = await page(ours, f"{S}?limit=3&updated_before={since!r}")
    assert ([each["id"] for each in last], cursor) == (["s0", "s2"], None)
    _, everybody = await ours.call("GET", "/apps/echo/sessions?limit=500")
    assert [(each["userId"], each["id"]) for each in everybody if each["id"] == "s0"] == [("ada", "s0"), ("bob", "s0")]


async def test_bad_pages(front):
    for query in ("limit=0", "limit=501", "limit=x", "updated_since=x", "updated_since=nan", "updated_before=-1"):
        assert (await front.call("GET", f"{S}?{query}"))[0] == 422, query
    for cursor in ("x", "W10", "WzEsImEiLCJiIl0", "%00"):
        status, body = await front.call("GET", f"{S}?cursor={cursor}")
        assert (status, set(body)) == (400, {"detail"}), cursor
