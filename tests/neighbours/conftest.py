from __future__ import annotations

from multiprocessing import resource_tracker

import pytest


@pytest.fixture(scope="session", autouse=True)
def _tracker() -> None:
    """Start the process that multiprocessing starts with its first child, and that lives as long as this one."""
    resource_tracker.ensure_running()
