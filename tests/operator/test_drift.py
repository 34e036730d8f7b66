"""Differences between a desired object and the one that the API server stores."""

from __future__ import annotations

from typing import Any

import pytest

from session_operator.children import live_of
from session_operator.fields import differs


@pytest.mark.parametrize(
    ("desired", "live"),
    [
        ({"a": 1}, {"a": 1, "added": "by the server"}),
        ({"a": {"b": [{"c": 1}]}}, {"a": {"b": [{"c": 1, "d": 2}], "e": 3}}),
        ({"paused": False}, {}),
        ({"memory": 1}, {"memory": "1"}),
    ],
)
def test_no_difference(desired: Any, live: Any):
    assert not differs(desired, live)


@pytest.mark.parametrize(
    ("desired", "live"),
    [
        ({"a": 1}, {"a": 2}),
        ({"a": 1}, {}),
        ({"a": [1]}, {"a": [1, 2]}),
        ({"a": [1, 2]}, {"a": [2, 1]}),
        ({"a": {"b": 1}}, {"a": "b"}),
        ({"a": [1]}, {"a": 1}),
        ({"paused": False}, {"paused": True}),
    ],
)
def test_difference(desired: Any, live: Any):
    assert differs(desired, live)


def test_the_remembered_part_of_a_deployment():
    live = live_of(
        {
            "metadata": {
                "uid": "d",
                "generation": 4,
                "annotations": {"sessionmanager.dev/spec-hash": "abc", "sessionmanager.dev/wake": "w"},
                "ownerReferences": [{"uid": "s"}],
            },
            "spec": {"replicas": 1},
        }
    )
    assert (live.uid, live.owner, live.generation, live.replicas) == ("d", "s", 4, 1)
    assert (live.paused, live.spec_hash, live.wake) == (False, "abc", "w")
