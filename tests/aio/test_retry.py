"""Back-off and retrying, in virtual time."""

from __future__ import annotations

from itertools import islice

import pytest

from session_manager.aio.retry import BACKOFF, Backoff, until_available
from session_manager.domain.errors import NotFound, Unavailable
from tests.sim.clock import VirtualLoop


class Dependency:
    """Unavailable until ``back_at``. Records when it was called."""

    def __init__(self, loop: VirtualLoop, back_at: float) -> None:
        self._loop = loop
        self._back_at = back_at
        self.calls: list[float] = []

    async def ask(self) -> str:
        self.calls.append(round(self._loop.time(), 3))
        if self._loop.time() < self._back_at:
            raise Unavailable("away")
        return "answer"


def test_pauses_double_up_to_the_last_one() -> None:
    assert list(islice(Backoff(0.5, 3.0).pauses(), 5)) == [0.5, 1.0, 2.0, 3.0, 3.0]


@pytest.mark.parametrize(("failures", "pause"), [(1, 5.0), (2, 10.0), (7, 300.0), (100_000, 300.0)])
def test_pause_after_a_number_of_failures(failures: int, pause: float) -> None:
    assert Backoff(5.0, 300.0).pause(failures) == pause


def test_equal_first_and_last_are_a_steady_interval() -> None:
    assert list(islice(Backoff(1.5, 1.5).pauses(), 3)) == [1.5, 1.5, 1.5]


def test_an_available_dependency_is_asked_once(loop: VirtualLoop) -> None:
    dependency = Dependency(loop, back_at=0.0)
    assert loop.run_until_complete(until_available(dependency.ask)) == "answer"
    assert dependency.calls == [0.0]


def test_an_unavailable_dependency_is_asked_until_it_is_back(loop: VirtualLoop) -> None:
    dependency = Dependency(loop, back_at=5.0)
    assert loop.run_until_complete(until_available(dependency.ask)) == "answer"
    assert dependency.calls == [0.0, 0.1, 0.3, 0.7, 1.5, 3.1, 5.1]
    assert Backoff(0.1, 2.0) == BACKOFF


def test_each_failure_is_reported(loop: VirtualLoop) -> None:
    reported: list[str] = []
    dependency = Dependency(loop, back_at=2.0)
    work = until_available(dependency.ask, Backoff(1.0, 1.0), lambda error: reported.append(error.detail))
    loop.run_until_complete(work)
    assert reported == ["away", "away"]
    assert dependency.calls == [0.0, 1.0, 2.0]


def test_other_errors_are_not_retried(loop: VirtualLoop) -> None:
    async def fail() -> None:
        raise NotFound("no such session")

    with pytest.raises(NotFound):
        loop.run_until_complete(until_available(fail))
