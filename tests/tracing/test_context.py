"""Trace contexts of callers: those that the W3C recommendation allows are passed on, and all others are ignored."""

from __future__ import annotations

import io
import json
import logging

import pytest

from session_manager.logs import OURS, setup_logging
from session_manager.settings import Settings
from session_manager.tracing.context import Trace, current

TRACE, SPAN = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
PARENT = f"00-{TRACE}-{SPAN}-01"


@pytest.mark.parametrize(
    ("parent", "flags"),
    [
        (PARENT, 1),
        (f"00-{TRACE}-{SPAN}-00", 0),
        (f"00-{TRACE}-{SPAN}-ff", 1),  # unknown flags are cleared
        (f"01-{TRACE}-{SPAN}-01", 1),
        (f"fe-{TRACE}-{SPAN}-01-what-comes-later", 1),
    ],
)
def test_a_valid_context(parent: str, flags: int):
    assert Trace.parse(parent) == Trace(TRACE, SPAN, flags)


@pytest.mark.parametrize(
    "parent",
    [
        "",
        f"ff-{TRACE}-{SPAN}-01",
        f"00-{'0' * 32}-{SPAN}-01",
        f"00-{TRACE}-{'0' * 16}-01",
        f"00-{TRACE.upper()}-{SPAN}-01",
        f"00-{TRACE}-{SPAN}",
        f"00-{TRACE}-{SPAN}-01-more",
        f"01-{TRACE}-{SPAN}-01more",
        f"00-{TRACE}-{SPAN}-0g",
        f" {PARENT}",
        f"{PARENT}\n",
        f"{PARENT}, {PARENT}",
        f"01-{TRACE}-{SPAN}-01-{'x' * 300}",
    ],
)
def test_a_malformed_context_is_ignored(parent: str):
    assert Trace.parse(parent) is None


@pytest.mark.parametrize(
    ("state", "kept"),
    [
        ("congo=t61rcWkgMzE,rojo=00f0", True),
        ("x" * 512, True),
        ("x" * 513, False),
        ("a=\r\nX: 1", False),
        ("ä=1", False),
    ],
)
def test_a_malformed_tracestate_is_dropped_alone(state: str, kept: bool):
    assert Trace.parse(PARENT, state) == Trace(TRACE, SPAN, 1, state if kept else "")


@pytest.mark.parametrize("state", ["", "a=1,b=2", "a= 1"])
def test_a_stored_context_is_the_same(state: str):
    trace = Trace(TRACE, SPAN, 1, state)
    assert Trace.stored(trace.text) == trace
    assert Trace.stored(None) is None


def test_log_lines_have_the_ids_of_the_task_s_trace():
    stream = io.StringIO()
    setup_logging(Settings.from_environment(log_format="json"), stream)
    log = logging.getLogger(f"{OURS}.test")
    log.warning("before")
    token = current.set(Trace(TRACE, SPAN, 1))
    log.warning("within")
    current.reset(token)
    before, within = map(json.loads, stream.getvalue().splitlines())
    assert "trace_id" not in before
    assert (within["trace_id"], within["span_id"]) == (TRACE, SPAN)
