"""SessionClasses from YAML: what is read, and what is refused in which words."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Any

import pytest

from session_manager.domain.errors import InvalidInput, StartupFailure
from session_manager.domain.session_class import PodProtocol, Probe, Redelivery, SessionClass
from session_manager.runtime.classes import ConfiguredClasses, load_classes
from session_manager.settings import Settings

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("classes")


def load(folder: Path, text: str, **settings: Any) -> ConfiguredClasses:
    file = folder / "classes.yaml"
    file.write_text(text, "utf-8")
    return load_classes(Settings.from_environment(session_classes=file, **settings))


def test_every_field(folder: Path) -> None:
    text = """
    classes:
      - name: mine
        command: [python, ./agent.py, ../x, "*.py", a/b]
        image: agents/mine:1
        port: 8000
        protocol: adk
        env: {A: "1", B: ""}
        probe: {path: /ready, startupTimeoutSeconds: 5, intervalSeconds: 0.5, timeoutSeconds: 2}
        idleTimeoutSeconds: 6
        ttlSeconds: 7
        turnTimeoutSeconds: 8.5
        gracePeriodSeconds: 0
        redelivery: idempotent
    """
    assert load(folder, text).get("mine") == SessionClass(
        name="mine",
        command=("python", str(folder / "agent.py"), str(folder.parent / "x"), "*.py", "a/b"),
        image="agents/mine:1",
        port=8000,
        protocol=PodProtocol.ADK,
        env={"A": "1", "B": ""},
        probe=Probe("/ready", 5, 0.5, 2),
        idle_timeout=6,
        ttl=7,
        turn_timeout=8.5,
        grace_period=0,
        redelivery=Redelivery.IDEMPOTENT,
    )


def test_the_python_of_a_virtual_environment_stays_that_one(folder: Path) -> None:
    python = folder / "env" / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.symlink_to(sys.executable)
    classes = load(folder, "classes: [{name: mine, command: [./env/bin/python, ./agent.py]}]")
    assert classes.get("mine").command == (str(python), str(folder / "agent.py"))


def test_missing_fields_have_the_defaults_of_the_settings(folder: Path) -> None:
    classes = load(folder, "classes: [{name: mine, command: [x]}]", idle_timeout=3, session_ttl=4)
    assert classes.get("mine") == SessionClass("mine", ("x",), idle_timeout=3, ttl=4)


def test_the_default_class_is_built_in_and_can_be_replaced(folder: Path) -> None:
    built_in = load_classes(Settings.from_environment(idle_timeout=3)).get("default")
    echo = (sys.executable, "-P", "-m", "session_manager.agent.echo")
    assert built_in == SessionClass("default", echo, idle_timeout=3)
    assert load(folder, "classes: []").get("default").command == echo
    assert load(folder, "classes: [{name: default, command: [x]}]").get("default").command == ("x",)


def test_an_unknown_class_lists_the_known_ones(folder: Path) -> None:
    classes = load(folder, "classes: [{name: mine}, {name: another}]")
    with pytest.raises(
        InvalidInput, match=re.escape("unknown class 'x'; known classes: another, default, mine")
    ) as caught:
        classes.get("x")
    assert caught.value.field == "class"


def test_the_file_is_relative_to_nothing_but_itself(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    load(folder, "classes: [{name: mine, command: [./agent.py]}]")
    monkeypatch.chdir(folder)
    classes = load_classes(Settings.from_environment(session_classes=Path("classes.yaml")))
    assert classes.get("mine").command == (str(folder / "agent.py"),)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (
            "classes: [{name: a, idleTimeout: 5}]",
            "class a: idleTimeout: unknown field; did you mean idleTimeoutSeconds?",
        ),
        (
            "classes: [{name: a, ttl_seconds: 5}]",
            "class a: ttl_seconds: unknown field; did you mean ttlSeconds?",
        ),
        ("classes: [{name: a, zzz: 5}]", "class a: zzz: unknown field; known fields: name, command, image,"),
        ("classes: [{name: a, probe: {url: /}}]", "class a: probe: url: unknown field; known fields: path,"),
        (
            "classes: [{name: a, probe: {timeout: 1}}]",
            "class a: probe: timeout: unknown field; did you mean timeoutSeconds?",
        ),
        ("classes: [{name: a, probe: {path: health}}]", "class a: probe: path: String should match"),
        ('classes: [{name: a, probe: {path: "/a\\r\\nX: y"}}]', "class a: probe: path: String should match"),
        ("classes: [{name: a, probe: 5}]", "class a: probe: should be a mapping"),
        ("classes: [{name: a, command: python agent.py}]", "class a: command: should be a list"),
        ("classes: [{name: a, command: [sleep, 5]}]", "class a: command: 1: should be text; put it in quotes"),
        ('classes: [{name: a, command: ["a\\0"]}]', "class a: command: 0: String should match"),
        ("classes: [{name: a, env: {A: 5}}]", "class a: env: A: should be text; put it in quotes"),
        ("classes: [{name: a, env: {A: yes}}]", "class a: env: A: should be text; put it in quotes"),
        ("classes: [{name: a, env: {PORT: '5'}}]", "class a: env: PORT is set by the runtime"),
        ("classes: [{name: a, env: {'A=B': '5'}}]", "class a: env: 'A=B' is not a valid name of a variable"),
        ("classes: [{name: a, env: [A]}]", "class a: env: should be a mapping"),
        ("classes: [{name: a, idleTimeoutSeconds: 0}]", "class a: idleTimeoutSeconds: Input should be greater than 0"),
        ("classes: [{name: a, ttlSeconds: .inf}]", "class a: ttlSeconds: Input should be"),
        ("classes: [{name: a, ttlSeconds: .nan}]", "class a: ttlSeconds: Input should be"),
        (
            "classes: [{name: a, turnTimeoutSeconds: '5'}]",
            "class a: turnTimeoutSeconds: Input should be a valid number",
        ),
        ("classes: [{name: a, gracePeriodSeconds: -1}]", "class a: gracePeriodSeconds: Input should be greater"),
        (
            "classes: [{name: a, gracePeriodSeconds: true}]",
            "class a: gracePeriodSeconds: Input should be a valid number",
        ),
        ("classes: [{name: a, port: 70000}]", "class a: port: Input should be less than or equal to 65535"),
        ("classes: [{name: a, port: '5'}]", "class a: port: Input should be a valid integer"),
        ("classes: [{name: a, protocol: grpc}]", "class a: protocol: Input should be 'http' or 'adk'"),
        ("classes: [{name: a, redelivery: never}]", "class a: redelivery: Input should be 'replace' or 'idempotent'"),
        ("classes: [{name: a, command: [x], warm: -1}]", "class a: warm: Input should be greater than or equal to 0"),
        ("classes: [{name: a, command: [x], warm: 9999}]", "class a: warm: Input should be less than or equal to 1000"),
        ("classes: [{name: a, command: [x], warm: '5'}]", "class a: warm: Input should be a valid integer"),
        ("classes: [{name: a, image: x, warm: 1}]", "class a: warm: warm pods need a command"),
        ("classes: [{name: Mine}]", "class Mine: name: String should match"),
        ("classes: [{name: ''}]", "class : name: String should match"),
        ("classes: [{name: a}, {command: [x]}]", "class number 2: name: is missing"),
        ("classes: [{name: a}, {name: b}, {name: a}]", "class a: defined 2 times"),
        ("classes: [{name: a, name: b}]", "line 1: key name is repeated"),
        ("classes: [5]", "class number 1: should be a mapping"),
        ("classes: {}", "classes: should be a list"),
        ("sessionClasses: []", "classes: is missing"),
        ("[]", "should be a mapping"),
        ("", "should be a mapping"),
        ("classes: [", "line 1: "),
        ("classes: !!python/object:os.system []", "line 1: could not determine a constructor"),
        ("? [a]\n: b", "line 1: "),
        ("\0", "unacceptable character"),
    ],
)
def test_mistakes_are_reported_with_file_class_and_field(folder: Path, text: str, words: str) -> None:
    with pytest.raises(StartupFailure) as caught:
        load(folder, text)
    assert caught.value.detail.startswith(f"{folder / 'classes.yaml'}: {words}")
    assert "\n" not in caught.value.detail


def test_a_file_that_cannot_be_read(folder: Path) -> None:
    with pytest.raises(StartupFailure, match=r"^SESSION_CLASSES: .*none\.yaml: No such file or directory; expected"):
        load_classes(Settings.from_environment(session_classes=folder / "none.yaml"))
    (folder / "latin").write_bytes(b"classes: \xe4")
    with pytest.raises(StartupFailure, match="latin: invalid encoding; expected UTF-8"):
        load_classes(Settings.from_environment(session_classes=folder / "latin"))
