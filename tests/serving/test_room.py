"""The room of a caller when a request turns out to be another caller's."""

from __future__ import annotations

import pytest

from session_manager.domain.errors import RateLimited
from session_manager.people.room import Room
from session_manager.settings.capacity import CapacitySettings, MiB


@pytest.fixture
def room() -> Room:
    room = Room(CapacitySettings(MAX_REQUESTS_PER_CALLER=1, BUFFER_BYTES_PER_CALLER=8 * MiB))
    room.enter("service")
    room.take("service", 6 * MiB)
    return room


def is_empty(room: Room, holder: str) -> bool:
    """Return True if the holder may begin a request and hold all the bytes of a caller."""
    try:
        room.take(holder, 8 * MiB)
        room.free(holder, 8 * MiB)
        room.enter(holder)
        room.leave(holder)
    except RateLimited:
        return False
    return True


def test_a_request_moves_with_its_bytes(room: Room):
    room.move("service", "ada", 6 * MiB)
    assert (is_empty(room, "service"), is_empty(room, "ada")) == (True, False)
    room.free("ada", 6 * MiB)
    room.leave("ada")
    assert (is_empty(room, "ada"), room.held) == (True, 0)


@pytest.mark.parametrize("full", ["requests", "bytes"])
def test_a_request_stays_where_it_is_if_there_is_no_room(room: Room, full: str):
    if full == "requests":
        room.enter("ada")
    else:
        room.take("ada", 3 * MiB)
    with pytest.raises(RateLimited):
        room.move("service", "ada", 6 * MiB)
    room.free("service", 6 * MiB)
    room.leave("service")
    assert is_empty(room, "service")
    if full == "requests":
        room.leave("ada")
    else:
        room.free("ada", 3 * MiB)
    assert (is_empty(room, "ada"), room.held) == (True, 0)
