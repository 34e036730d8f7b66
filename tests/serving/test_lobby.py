"""Which connection has to go when an address, or the front door, has no more room."""

from __future__ import annotations

import resource
from typing import Any

import pytest

from session_manager.domain.errors import Overloaded, RateLimited
from session_manager.people.addresses import Proxies
from session_manager.people.room import Room
from session_manager.serving.lobby import MOST_HEADS, MOST_LINGERING, MOST_LINGERING_HERE, SPARE, Lobby
from session_manager.settings.capacity import CapacitySettings

HERE, THERE, PROXY = "192.0.2.1", "192.0.2.2", None


class Guest:
    def __init__(self, origin: str | None) -> None:
        self.origin = origin
        self.holder: str | None = None
        self.cut = False
        self.refusal: Exception | None = None

    def cut_off(self) -> None:
        self.cut = True

    def refuse(self, error: Exception) -> None:
        self.refusal = error


def lobby(**settings: Any) -> Lobby:
    capacity = CapacitySettings(**settings)
    return Lobby(Room(capacity), capacity, Proxies(()))


def entered(lobby: Lobby, count: int, origin: str | None = HERE) -> list[Guest]:
    guests = [Guest(origin) for _ in range(count)]
    for each in guests:
        lobby.enter(each)
    return guests


def test_the_longest_idle_connection_of_an_address_gives_way():
    made = lobby(MAX_CONNECTIONS_PER_ADDRESS="3")
    other = entered(made, 1, THERE)
    first, second, third = entered(made, 3)
    made.busy(first)
    made.busy(second)
    made.idle(second)
    entered(made, 1)
    assert [each.cut for each in (first, second, third, *other)] == [False, False, True, False]


def test_an_address_whose_connections_are_all_busy_gets_no_other():
    made = lobby(MAX_CONNECTIONS_PER_ADDRESS="3")
    for each in (guests := entered(made, 3)):
        made.busy(each)
    with pytest.raises(RateLimited):
        made.enter(Guest(HERE))
    assert not any(each.cut for each in guests)
    made.idle(guests[1])
    entered(made, 1)
    assert [each.cut for each in guests] == [False, True, False]


def test_the_oldest_unfinished_head_of_an_address_gives_way():
    made = lobby()
    other = entered(made, 1, THERE)
    guests = entered(made, MOST_HEADS + 1)
    for each in [*other, *guests]:
        made.hold_head(each, 100)
    made.hold_head(guests[1], 200)
    assert [each for each in [*other, *guests] if each.refusal] == guests[:1]
    assert isinstance(guests[0].refusal, RateLimited)
    made.head_done(guests[1])
    entered(made, 1)
    made.hold_head(Guest(HERE), 1)
    assert guests[2].refusal is None


def test_proxies_have_no_limit_of_their_own():
    made = lobby(MAX_CONNECTIONS_PER_ADDRESS="3")
    guests = entered(made, MOST_HEADS + 1, PROXY)
    for each in guests:
        made.hold_head(each, 1)
    assert not any(each.cut or each.refusal for each in guests)


def test_places_to_linger_are_shared_by_addresses():
    made = lobby()
    guests = entered(made, MOST_LINGERING_HERE + 1)
    assert [made.may_linger(each) for each in guests] == [True] * MOST_LINGERING_HERE + [False]
    assert made.may_linger(Guest(THERE))
    made.leave(guests[0])
    assert made.may_linger(guests[-1])


def test_places_to_linger_have_a_limit_in_total():
    made = lobby()
    assert all(made.may_linger(Guest(PROXY)) for _ in range(MOST_LINGERING))
    assert not made.may_linger(Guest(THERE))


@pytest.mark.parametrize(
    ("files", "most"), [(1_000_000, 8192), (resource.RLIM_INFINITY, 8192), (1024, 1024 - 256 - 64 - 256), (500, 1)]
)
def test_connections_leave_files_for_everything_else(monkeypatch, files, most):
    monkeypatch.setattr(resource, "getrlimit", lambda _: (files, files))
    made = lobby()
    for origin in range(most):
        made.enter(guest := Guest(str(origin)))
        made.busy(guest)
    for origin in range(SPARE):
        made.enter(guest := Guest(f"x{origin}"))
        made.busy(guest)
    with pytest.raises(Overloaded):
        made.enter(Guest("one more"))


def test_nothing_is_kept_of_connections_that_left():
    made = lobby()
    for each in entered(made, 3):
        made.hold_head(each, 10)
        made.may_linger(each)
        made.leave(each)
        made.leave(each)
    kept = (made._here, made._idle_here, made._heads_here, made._lingering_here, made._idle, made._heads)
    assert not any(len(each) for each in kept)
