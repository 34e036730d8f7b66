"""One module defines all names, labels and annotations."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import session_manager
import session_operator
from session_manager.runtime.kubernetes import names

UUID = "8c5f1f4e-3b1a-4a5e-9d38-2f1f0a7e6b11"


def test_no_other_module_spells_one_out():
    roots = [Path(module.__file__ or "").parent for module in (session_manager, session_operator)]
    sources = [file for root in roots for file in root.rglob("*.py") if file != Path(names.__file__)]
    words = ("sessionmanager.dev", "keda.sh", "app.kubernetes.io")
    spelled = {file.name for file in sources if any(word in file.read_text() for word in words)}
    assert spelled == set()


@pytest.mark.parametrize(
    ("name", "session"),
    [
        (f"session-{UUID}", UUID),
        ("session-manager", None),
        (UUID, None),
        (f"session-{UUID.upper()}", None),
        ("warm-default", None),
    ],
)
def test_the_name_of_a_child_contains_its_session(name: str, session: str | None):
    assert names.session_of_child(name) == session


def test_names_can_be_reversed():
    assert names.session_of_child(names.child_name(UUID)) == UUID
    assert names.class_of_pool(names.warm_name("default")) == "default"
    assert names.class_of_pool("other") is None
    assert len(names.child_name(UUID)) <= 63
    assert len(names.warm_name("x" * 58)) <= 63


@pytest.mark.parametrize(
    ("owner", "readable"),
    [
        ("ann", "ann"),
        ("a.b_c-d", "a.b_c-d"),
        ("ann@example.com", "ann-example-com-"),
        ("org/ann", "org-ann-"),
        ("-", ""),
        ("Zoë", "Zo-"),
        ("x" * 128, "x" * 40 + "-"),
    ],
)
def test_every_owner_has_a_label(owner: str, readable: str):
    value = names.label_value(owner)
    assert re.fullmatch(r"[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?", value)
    assert value.startswith(readable)
    assert (value == owner) is (readable == owner)


def test_two_owners_never_share_a_label():
    owners = ["a/b", "a:b", "a@b", "a b", "a-b", "ä", "ö", "x" * 64, "x" * 65]
    assert len({names.label_value(owner) for owner in owners}) == len(owners)
