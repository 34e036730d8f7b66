"""Differences between a desired object and the one that the API server stores."""

from __future__ import annotations

from typing import Any

import pytest

from session_operator.deployments import live_of
from session_operator.fields import differs, service_differs


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


SERVICE = {"metadata": {"labels": {"a": "b"}}, "spec": {"selector": {"s": "x"}, "ports": [{"name": "http", "port": 1}]}}


@pytest.mark.parametrize(
    ("spec", "different"),
    [
        (
            {"selector": {"s": "x"}, "ports": [{"name": "http", "port": 1, "protocol": "TCP"}], "type": "ClusterIP"},
            False,
        ),
        ({"selector": {"s": "y"}, "ports": [{"name": "http", "port": 1}]}, True),
        ({"selector": {"s": "x", "more": "z"}, "ports": [{"name": "http", "port": 1}]}, True),
        ({"selector": {"s": "x"}, "ports": [{"name": "http", "port": 1}, {"name": "more", "port": 2}]}, True),
        ({"ports": [{"name": "http", "port": 1}]}, True),
    ],
)
def test_a_service_selects_exactly_the_pods_of_its_session(spec: Any, different: bool):
    assert service_differs(SERVICE, {"metadata": {"labels": {"a": "b"}}, "spec": spec}) is different
