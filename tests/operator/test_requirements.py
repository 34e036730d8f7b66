"""Requests and limits: what a class says, completed so that every resource has a limit."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest

from session_operator import requirements

DISK = {"ephemeral-storage": "64Mi"}, {"ephemeral-storage": "1Gi"}


@pytest.mark.parametrize(
    ("given", "requests", "limits"),
    [
        (None, {"cpu": "50m", "memory": "128Mi"}, {"cpu": "1", "memory": "512Mi"}),
        ({"limits": {"memory": "1Gi"}}, {"cpu": "50m", "memory": "128Mi"}, {"cpu": "1", "memory": "1Gi"}),
        ({"limits": {"memory": "64Mi"}}, {"cpu": "50m", "memory": "64Mi"}, {"cpu": "1", "memory": "64Mi"}),
        ({"requests": {"memory": "2Gi"}}, {"cpu": "50m", "memory": "2Gi"}, {"cpu": "1", "memory": "2Gi"}),
        ({"requests": {"cpu": 2}}, {"cpu": 2, "memory": "128Mi"}, {"cpu": 2, "memory": "512Mi"}),
        (
            {"requests": {"gpu.example/a100": "1"}, "limits": {"gpu.example/a100": "1"}},
            {"cpu": "50m", "memory": "128Mi", "gpu.example/a100": "1"},
            {"cpu": "1", "memory": "512Mi", "gpu.example/a100": "1"},
        ),
    ],
)
def test_what_a_class_says_and_the_rest(given: Any, requests: dict[str, Any], limits: dict[str, Any]):
    expected = {"requests": {**DISK[0], **requests}, "limits": {**DISK[1], **limits}}
    assert requirements.complete(given) == expected


def test_a_contradiction_of_the_class_is_left_to_the_api_server():
    given = {"requests": {"memory": "2Gi"}, "limits": {"memory": "1Gi"}}
    found = requirements.complete(given)
    assert (found["requests"]["memory"], found["limits"]["memory"]) == ("2Gi", "1Gi")


@pytest.mark.parametrize("text", ["1e1.5", "1.2.3", "much", ""])
def test_so_is_what_is_no_quantity(text: str):
    assert requirements.complete({"requests": {"cpu": text}})["requests"]["cpu"] == text


@pytest.mark.parametrize(
    ("text", "amount"),
    [
        ("1", "1"),
        (7, "7"),
        ("500m", "0.5"),
        ("1.5Gi", "1610612736"),
        ("0.1Ki", "102.4"),
        ("2k", "2000"),
        ("1e3", "1000"),
        ("1E3", "1000"),
        ("1E", "1e18"),
        ("3n", "3e-9"),
        (".5", "0.5"),
        ("5.", "5"),
    ],
)
def test_quantities(text: object, amount: str):
    assert requirements.quantity(text) == Decimal(amount)
