from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import partial
from pathlib import Path

import pytest

from tests.cli.program import FrontDoor, hide_real_redis
from tests.servers.redis import PROGRAMS


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., FrontDoor]]:
    """Start front doors in the test's folder; they are stopped at its end."""
    with ExitStack() as stack:

        def start_one(command: str = "dev", *args: str, **env: str) -> FrontDoor:
            front = FrontDoor(command, tmp_path, *args, **env)
            stack.callback(front.stop)
            return front

        yield start_one


@pytest.fixture(params=PROGRAMS)
def start_with_each_redis(
    request: pytest.FixtureRequest, start: Callable[..., FrontDoor], tmp_path_factory: pytest.TempPathFactory
) -> Callable[..., FrontDoor]:
    """Start front doors that find a real Redis, where there is one, and front doors that find none."""
    env = hide_real_redis(tmp_path_factory.mktemp("hidden")) if request.param == "embedded" else {}
    return partial(start, **env)


@pytest.fixture(scope="module")
def front(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FrontDoor]:
    """One ``dev`` for the tests of a file."""
    door = FrontDoor("dev", tmp_path_factory.mktemp("dev"))
    yield door
    assert door.stop() == 0
    assert "Traceback" not in door.err
