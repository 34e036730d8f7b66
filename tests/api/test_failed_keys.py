"""Wrong keys are counted and refused by address, and a valid key from there works."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

import pytest
from limits import parse
from prometheus_client import Counter

from session_manager.activity.link import Link
from session_manager.api import failed_keys
from session_manager.api.failed_keys import ELSEWHERE, FailedKeys
from session_manager.domain.errors import ActivityUnavailable, RateLimited

KEY, WRONG = "service-key-0123456789", "no-such-key-0123456789"
ASK = "/sessions"


def bearer(key: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {key}"}


@pytest.mark.parametrize(
    "wrong",
    [bearer(WRONG), {"X-API-Key": WRONG}, {"X-Session-Token": "a.b.1.9999999999.c"}, {"Authorization": "Basic YTpi"}],
)
async def test_wrong_keys_are_refused_and_valid_ones_are_not(start: Any, wrong: dict[str, str]):
    door = await start(session_api_keys=f"web:{KEY}", rate_limit_failed_keys="3/hour")
    path = "/apps/a/users/b/sessions/c" if "X-Session-Token" in wrong else ASK
    for expected in [401, 401, 401, 429, 429]:
        async with door.client.get(door.url + path, headers=wrong) as response:
            assert response.status == expected
            header = "Www-Authenticate" if expected == 401 else "Retry-After"
            assert response.headers[header]
    assert (await door.call("GET", ASK, headers=bearer(KEY)))[0] == 200
    assert (await door.call("GET", ASK))[0] == 401  # without a key there is nothing to guess


async def test_front_doors_count_together(start: Any):
    doors = [await start(session_api_keys=f"web:{KEY}", rate_limit_failed_keys="2/hour") for _ in range(2)]
    statuses = [(await door.call("GET", ASK, headers=bearer(WRONG)))[0] for door in [*doors, *doors]]
    assert statuses == [401, 401, 429, 429]


async def test_an_open_route_counts_wrong_keys_and_answers(start: Any):
    door = await start(session_api_keys=f"web:{KEY}", rate_limit_failed_keys="1/hour")
    statuses = [(await door.call("GET", "/livez", headers=bearer(WRONG)))[0] for _ in range(3)]
    assert statuses == [200, 200, 200]
    async with door.client.get(f"{door.url}/metrics", headers={"Accept": "text/plain", **bearer(KEY)}) as response:
        assert "session_manager_failed_keys_total 3.0" in await response.text()


class NoRedis(Link):
    def __init__(self) -> None:
        self.asked = 0

    async def script(self, *args: Any, **more: Any) -> Any:
        self.asked += 1
        raise ActivityUnavailable


def counting(rate: str, link: Link) -> FailedKeys:
    return FailedKeys(parse(rate), link, Counter("failed", "", registry=None))


async def refused(failed: FailedKeys, address: str) -> bool:
    try:
        await failed.count(address, refuse=True)
    except RateLimited:
        return True
    return False


async def test_without_redis_each_front_door_counts_for_itself():
    link = NoRedis()
    failed = counting("3/hour", link)
    assert [await refused(failed, "9.9.9.9") for _ in range(5)] == [False] * 3 + [True] * 2
    assert not await refused(failed, "8.8.8.8")
    assert link.asked == 4  # who is over the limit costs Redis nothing


async def test_the_log_has_a_line_for_each_address_and_window(caplog: Any, monkeypatch: Any):
    monkeypatch.setattr(failed_keys, "MOST_LINES", 2)
    monkeypatch.setattr(failed_keys, "MOST_ADDRESSES", 4)
    caplog.set_level(logging.WARNING)
    failed = counting("1/second", NoRedis())
    monkeypatch.setattr(failed, "_period", 0.01)
    for address, times in {"9.9.9.9": 30, "8.8.8.8": 20, "7.7.7.7": 1, "6.6.6.6": 1, "5.5.5.5": 2}.items():
        for _ in range(times):
            await refused(failed, address)
    reported = asyncio.Event()
    asyncio.get_running_loop().call_at(failed._ends, reported.set)
    await reported.wait()
    lines = [(record.address, record.count) for record in caplog.records]
    assert lines == [("9.9.9.9", 30), ("8.8.8.8", 20), (ELSEWHERE, 4)]
    assert not any(WRONG in record.getMessage() for record in caplog.records)
    assert not await refused(failed, "9.9.9.9")  # another window


async def test_a_front_door_that_stops_logs_the_window_that_has_not_ended(start: Any, caplog: Any):
    caplog.set_level(logging.WARNING)
    door = await start(session_api_keys=f"web:{KEY}", rate_limit_failed_keys="3/hour")
    assert (await door.call("GET", ASK, headers=bearer(WRONG)))[0] == 401
    for _ in range(2):  # closing may be repeated
        await door.services.close()
    assert [record.count for record in caplog.records if getattr(record, "event", "") == "keys.failed"] == [1]
