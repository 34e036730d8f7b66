"""SessionClasses from a YAML file, with the fields of the Kubernetes resource.

::

    classes:
      - name: counter
        command: [python, ./counter/agent.py]   # ./ and ../ are relative to the folder of this file
        env: {STEP: "2"}
        idleTimeoutSeconds: 60

A file without ``default`` gets the built-in one, which echoes. Repeated keys are rejected: a YAML loader drops all but
the last.
"""

from __future__ import annotations

import os
import sys
from collections import Counter
from collections.abc import Iterable
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Self

import yaml
from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError, field_validator, model_validator
from pydantic.alias_generators import to_camel
from pydantic_core import ErrorDetails

from session_manager.domain.errors import StartupFailure
from session_manager.domain.session_class import (
    DEFAULT,
    AppState,
    PodProtocol,
    Probe,
    Redelivery,
    SessionClass,
    unknown_class,
)
from session_manager.runtime.process.pods import RESERVED
from session_manager.settings import Settings

# -P: a pod runs in its HOME. Files that an agent creates there must not be imported instead of a module.
ECHO = (sys.executable, "-P", "-m", "session_manager.agent.echo")

_TIMES = {"startup_timeout", "interval", "timeout", "idle_timeout", "ttl", "turn_timeout", "grace_period"}

_PROBE = Probe()
_CLASS = SessionClass(DEFAULT)

_Seconds = Annotated[float, Field(gt=0, le=3650 * 86_400, allow_inf_nan=False, strict=True)]
_Text = Annotated[str, StringConstraints(pattern=r"^[^\x00]*$")]


# In place of pydantic's messages that use Python's terms.
_MESSAGES = {
    "bool_type": "should be true or false",
    "dict_type": "should be a mapping",
    "missing": "is missing",
    "model_type": "should be a mapping",
    "string_type": "should be text; put it in quotes",
    "tuple_type": "should be a list",
}


def _alias(field: str) -> str:
    """Return the name of a field in the file, for example ``idleTimeoutSeconds`` for ``idle_timeout``."""
    return to_camel(f"{field}_seconds" if field in _TIMES else field)


class _Spec(BaseModel):
    # The mypy plugin warns of dynamic aliases in constructors; these models are only parsed.
    model_config = ConfigDict(extra="forbid", alias_generator=_alias)  # type: ignore[pydantic-alias]


class _ProbeSpec(_Spec):
    path: str = Field(_PROBE.path, pattern=r"^/[!-~]*$")
    startup_timeout: _Seconds = _PROBE.startup_timeout
    interval: _Seconds = _PROBE.interval
    timeout: _Seconds = _PROBE.timeout


class _ClassSpec(_Spec):
    name: str = Field(pattern=r"^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$")
    command: tuple[_Text, ...] = ()
    image: str | None = None
    port: int = Field(_CLASS.port, ge=1, le=65535, strict=True)
    protocol: PodProtocol = _CLASS.protocol
    env: dict[str, _Text] = Field(default_factory=dict, repr=False)
    probe: _ProbeSpec = _ProbeSpec()
    idle_timeout: _Seconds | None = None
    ttl: _Seconds | None = None
    turn_timeout: _Seconds = _CLASS.turn_timeout
    grace_period: Annotated[float, Field(ge=0, le=3600, strict=True)] = _CLASS.grace_period
    redelivery: Redelivery = _CLASS.redelivery
    app_state: AppState = _CLASS.app_state
    warm: int = Field(_CLASS.warm, ge=0, le=1000, strict=True)

    @field_validator("env")
    @classmethod
    def _check_names(cls, env: dict[str, str]) -> dict[str, str]:
        for name in env:
            if name in RESERVED:
                raise ValueError(f"{name} is set by the runtime and cannot be changed")
            if not name or "=" in name or "\0" in name:
                raise ValueError(f"{name!r} is not a valid name of a variable")
        return env

    @model_validator(mode="after")
    def _check_warm(self) -> Self:
        if self.warm and not self.command:
            raise ValueError("warm: warm pods need a command")
        return self


class _FileSpec(_Spec):
    classes: tuple[_ClassSpec, ...]


class ConfiguredClasses:
    """The SessionClasses of one machine, by name."""

    def __init__(self, classes: Iterable[SessionClass]) -> None:
        self._classes = {session_class.name: session_class for session_class in classes}

    def all(self) -> list[SessionClass]:
        return list(self._classes.values())

    def get(self, name: str) -> SessionClass:
        found = self._classes.get(name)
        if found is None:
            raise unknown_class(name, self._classes)
        return found


def load_classes(settings: Settings) -> ConfiguredClasses:
    """Return the built-in class and the classes of the file. Raises StartupFailure with file, class and field."""
    built_in = SessionClass(DEFAULT, ECHO, idle_timeout=settings.sessions.idle_timeout, ttl=settings.sessions.ttl)
    file = settings.pods.classes
    return ConfiguredClasses([built_in, *(_read(file, settings) if file is not None else ())])


def _read(file: Path, settings: Settings) -> list[SessionClass]:
    content = _parse(file)
    try:
        specs = _FileSpec.model_validate(content).classes
    except ValidationError as error:
        raise StartupFailure(f"{file}: {_explain(error.errors()[0], content)}") from None
    for name, times in Counter(spec.name for spec in specs).items():
        if times > 1:
            raise StartupFailure(f"{file}: class {name}: defined {times} times; expected once")
    return [_build(spec, file.resolve().parent, settings) for spec in specs]


def _parse(file: Path) -> object:
    """Return the content of a file. Raises StartupFailure with the file and, if known, the line."""
    try:
        with file.open(encoding="utf-8") as stream:
            return yaml.load(stream, _Loader)  # noqa: S506  a SafeLoader
    except OSError as error:
        problem = f"SESSION_CLASSES: {file}: {error.strerror}; expected the path of a YAML file of SessionClasses"
        raise StartupFailure(problem) from None
    except UnicodeDecodeError:
        raise StartupFailure(f"{file}: invalid encoding; expected UTF-8") from None
    except yaml.MarkedYAMLError as error:
        line = f"line {error.problem_mark.line + 1}: " if error.problem_mark else ""
        raise StartupFailure(f"{file}: {line}{error.problem}") from None
    except yaml.YAMLError as error:
        raise StartupFailure(f"{file}: {str(error).splitlines()[0]}") from None


class _Loader(yaml.SafeLoader):
    """Rejects repeated keys, and keys that are not plain text."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[object, object]:
        seen = set()
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode):
                raise yaml.constructor.ConstructorError(None, None, "invalid key; expected plain text", key.start_mark)
            if key.value in seen:
                raise yaml.constructor.ConstructorError(None, None, f"key {key.value} is repeated", key.start_mark)
            seen.add(key.value)
        return super().construct_mapping(node, deep)


def _build(spec: _ClassSpec, folder: Path, settings: Settings) -> SessionClass:
    defaults = {"idle_timeout": settings.sessions.idle_timeout, "ttl": settings.sessions.ttl}
    given = {name: value for name, value in spec if value is not None}
    given["command"] = tuple(_resolve(word, folder) for word in spec.command)
    given["probe"] = Probe(**dict(spec.probe))
    return SessionClass(**defaults | given)


def _resolve(word: str, folder: Path) -> str:
    """Make ./ and ../ at the start of a word absolute: a pod runs in another folder than that of the file.

    A link is kept: the Python of a virtual environment is one, and finds its packages by the path of the link.
    """
    return os.path.normpath(folder / word) if word.startswith(("./", "../")) else word


def _explain(error: ErrorDetails, content: object) -> str:
    """Format an error, for example ``class counter: idleTimeoutSeconds: Input should be greater than 0``."""
    location = list(error["loc"])
    words = []
    if location[:1] == ["classes"] and len(location) > 1 and isinstance(location[1], int):
        words.append(f"class {_name_of(content, location[1])}")
        location = location[2:]
    words.extend(str(part) for part in location)
    message = _MESSAGES.get(error["type"], error["msg"].removeprefix("Value error, "))
    if error["type"] == "extra_forbidden":
        message = "unknown field" + _suggestion(str(location[-1]), nested=location[:-1] == ["probe"])
    return ": ".join([*words, message])


def _name_of(content: object, index: int) -> str:
    """Return the name of a class, or its number, counted from 1."""
    try:
        return str(content["classes"][index]["name"])  # type: ignore[index]
    except (KeyError, TypeError):
        return f"number {index + 1}"


def _suggestion(field: str, *, nested: bool) -> str:
    spec = _ProbeSpec if nested else _ClassSpec
    known = [_alias(name) for name in spec.model_fields]
    similar = get_close_matches(field, known, n=1) or get_close_matches(to_camel(field), known, n=1)
    return f"; did you mean {similar[0]}?" if similar else f"; known fields: {', '.join(known)}"
