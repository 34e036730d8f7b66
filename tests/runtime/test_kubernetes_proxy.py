"""Proxies on the way to the API."""

from __future__ import annotations

import pytest

from session_manager.runtime.kubernetes.cluster import has_proxy

VARIABLES = ("http_proxy", "https_proxy", "no_proxy", "all_proxy")


@pytest.fixture(autouse=True)
def no_proxies(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


@pytest.mark.parametrize(
    ("environment", "found"),
    [
        ({}, False),
        ({"HTTPS_PROXY": "http://proxy.example:3128"}, True),
        ({"https_proxy": "http://proxy.example:3128"}, True),
        ({"HTTP_PROXY": "http://proxy.example:3128"}, False),
        ({"HTTPS_PROXY": "http://proxy.example:3128", "NO_PROXY": "10.96.0.1"}, False),
    ],
)
def test_the_proxy_of_the_scheme_is_used_unless_the_host_is_excepted(
    monkeypatch: pytest.MonkeyPatch, environment: dict[str, str], found: bool
) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert has_proxy("https://10.96.0.1:443") is found
