"""Pods receive the address of this service."""

from __future__ import annotations

import socket
from typing import Any

import pytest

from session_manager.runtime.kubernetes.session_class import ClusterClasses
from session_manager.runtime.process.runtime import agent_environment
from session_manager.serving.process import with_own_address
from session_manager.settings import Settings


def settings(**given: Any) -> Settings:
    return Settings.from_environment(**given)


@pytest.mark.parametrize(("host", "seen"), [("127.0.0.1", "127.0.0.1"), ("0.0.0.0", "127.0.0.1")])
def test_on_one_machine_it_is_the_listening_address(host: str, seen: str):
    with socket.create_server((host, 0)) as listener:
        url = f"http://{seen}:{listener.getsockname()[1]}"
        assert agent_environment(with_own_address(settings(), listener))["SESSION_MANAGER_URL"] == url
        told = with_own_address(settings(session_manager_url="https://elsewhere"), listener)
        assert agent_environment(told)["SESSION_MANAGER_URL"] == "https://elsewhere"


def test_without_an_address_the_variable_is_absent():
    assert "SESSION_MANAGER_URL" not in agent_environment(settings())


def test_in_a_cluster_it_is_in_every_class_that_does_not_say_otherwise():
    classes = ClusterClasses(120, 86_400, "agent:1", 1111, {"SESSION_MANAGER_URL": "http://door"})
    plain = {"metadata": {"name": "plain"}, "spec": {"image": "a", "env": [{"name": "X", "value": "1"}]}}
    own = {"name": "SESSION_MANAGER_URL", "value": "http://another"}
    classes.specs["plain"] = classes.parse(plain)
    classes.specs["own"] = classes.parse({"metadata": {"name": "own"}, "spec": {"image": "a", "env": [own]}})
    classes.listed.set()
    told = {"name": "SESSION_MANAGER_URL", "value": "http://door"}
    assert classes.spec("plain").env == (told, {"name": "X", "value": "1"})
    assert classes.spec("own").env == (own,)
    assert classes.spec("default").env == (told,)
