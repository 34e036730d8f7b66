"""The states of leadership as /health reports them."""

from __future__ import annotations

from typing import get_args

import pytest

from session_manager.api.operations import MachineState, WriterState
from session_manager.leadership.leadership import ONE_MACHINE, ONE_WRITER, Role, State


@pytest.mark.parametrize(("role", "documented"), [(ONE_WRITER, WriterState), (ONE_MACHINE, MachineState)])
def test_health_documents_every_state(role: Role, documented: object) -> None:
    assert {public.name for public in role.public.values()} == {*get_args(documented)}
    reachable = set(State) if role.prepares else set(State) - {State.PREPARING}
    assert role.public.keys() == reachable
