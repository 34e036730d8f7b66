"""Histories drawn by hypothesis: the same few in every run, and new ones for the requested time."""

from __future__ import annotations

import os
import time
from secrets import randbits

import pytest
from hypothesis import HealthCheck, seed, settings
from hypothesis.stateful import run_state_machine_as_test

from tests.sim.machine import Histories

QUICK = settings(
    max_examples=60,
    stateful_step_count=40,
    derandomize=True,
    database=None,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)
FRESH = settings(QUICK, max_examples=100, stateful_step_count=60, derandomize=False, print_blob=True)


def test_histories() -> None:
    run_state_machine_as_test(Histories, settings=QUICK)


@pytest.mark.sim
def test_fresh_histories() -> None:
    """Run for SIM_MINUTES minutes, and print the steps of a failure."""
    deadline = time.monotonic() + 60 * float(os.environ.get("SIM_MINUTES", "1"))
    rounds = 0
    while time.monotonic() < deadline:
        number = randbits(32)
        print(f"round {rounds}: seed {number}", flush=True)
        run_state_machine_as_test(seed(number)(type("Histories", (Histories,), {})), settings=FRESH)
        rounds += 1
