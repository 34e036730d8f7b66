from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.sim.clock import VirtualLoop


@pytest.fixture
def loop() -> Iterator[VirtualLoop]:
    """An event loop in virtual time: ``loop.time()`` begins at 0 and jumps to the next timer."""
    loop = VirtualLoop()
    yield loop
    loop.close()
