"""The tests of this folder run on a real Redis, where there is one, and on the embedded one."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from session_manager.activity.server import RedisProgram
from tests.servers import shared
from tests.servers.redis import PROGRAMS, RedisServer


@pytest.fixture(scope="module", params=PROGRAMS)
def redis_program(request: pytest.FixtureRequest) -> RedisProgram:
    return PROGRAMS[request.param]


@pytest.fixture(scope="module")
def redis_server(redis_program: RedisProgram) -> Iterator[RedisServer]:
    with RedisServer(redis_program) as server, shared(server.pid):
        yield server


@pytest.fixture
def own_redis(redis_program: RedisProgram) -> Iterator[RedisServer]:
    with RedisServer(redis_program) as server:
        yield server


@pytest.fixture
def real_redis_only(redis_program: RedisProgram) -> None:
    if redis_program is not PROGRAMS.get("real"):
        pytest.skip("the embedded Redis has no ACL users, no CONFIG SET and no replication")
