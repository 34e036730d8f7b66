"""The table of ADK's fields is that of the installed google-adk. Run as a program, this file rewrites it."""

from __future__ import annotations

import enum
import inspect
import textwrap
import types
import typing
from pathlib import Path

from google.adk.auth.auth_tool import AuthConfig
from google.adk.events.event import Event
from google.genai._common import CaseInSensitiveEnum
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from session_manager.domain.adk.wire import camel

TABLE = Path(__file__).parents[3] / "session_manager" / "domain" / "adk" / "fields.py"

HEAD = '''\
"""The fields of ADK's events, by model. A test generates them from google-adk and checks that they are current.

A model is its treatment of unknown fields, then its fields as ``name:type``. Marks after the type: ``?`` may be null,
``!`` is required, ``=alias`` is a spelling in REST that is not plain camelCase, ``#`` is the default.
``[T]`` is a list, ``{T}`` an object with values of T, ``<T>`` a sorted set, ``'a'|'b'`` one of these strings.
"""

from __future__ import annotations

MODELS: dict[str, str] = {
'''
SCALARS = {str: "str", int: "int", float: "float", bool: "bool", bytes: "bytes", typing.Any: "any", types.NoneType: ""}
# A union of many shapes, all of them open: the last takes any object that has a type.
OPEN = {"auth_scheme"}


class Models:
    """Models by name, those that others need after them."""

    def __init__(self) -> None:
        self.lines: dict[str, list[str]] = {}

    def add(self, model: type[BaseModel]) -> str:
        name = model.__name__
        if name not in self.lines:
            self.lines[name] = [model.model_config.get("extra") or "ignore"]
            self.lines[name] += [self.field(each, field) for each, field in model.model_fields.items()]
        return name

    def field(self, name: str, field: FieldInfo) -> str:
        annotation = field.annotation
        if name == "requested_auth_configs":
            annotation = dict[str, AuthConfig]
        if name in OPEN:
            annotation = typing.get_args(annotation)[-1]
        text = f"{name}:{self.type(annotation)}"
        if any(getattr(each, "ge", None) == 0 for each in field.metadata):
            text = text.replace(":int", ":uint")
        if field.is_required():
            text += "!"
        alias = field.alias or name
        if alias != camel(name):
            text += f"={alias}"
        if isinstance(field.default, str) and field.default:
            text += f"#{field.default}"
        elif isinstance(field.default, bool) and text.endswith("?"):
            text += f"#{str(field.default).lower()}"
        return text

    def type(self, annotation: typing.Any) -> str:
        origin, inner = typing.get_origin(annotation), typing.get_args(annotation)
        if origin is typing.Literal:
            return "|".join(f"'{each}'" for each in inner)
        if origin in (typing.Union, types.UnionType):
            names = [self.type(each) for each in inner]
            return "|".join(filter(None, names)) + ("?" if "" in names else "")
        if origin is not None:
            shape = {list: "[{}]", dict: "{{{}}}", set: "<{}>"}[origin]
            return shape.format(self.type(inner[-1]))
        if inspect.isclass(annotation) and issubclass(annotation, BaseModel):
            return self.add(annotation)
        if inspect.isclass(annotation) and issubclass(annotation, enum.Enum):
            # This kind takes whatever it does not know; any other refuses it.
            known = issubclass(annotation, CaseInSensitiveEnum)
            return "str" if known else "|".join(f"'{each.value}'" for each in annotation)
        return SCALARS[annotation]


def generated() -> str:
    models = Models()
    for model in (Event, AuthConfig):
        models.add(model)
    return HEAD + "".join(_row(name, words) for name, words in models.lines.items()) + "}\n"


def _row(name: str, words: list[str]) -> str:
    line = f'    "{name}": "{" ".join(words)}",\n'
    if len(line) <= 120:
        return line
    indent = " " * 8
    wrapped = textwrap.fill(
        " ".join(words),
        120,
        break_on_hyphens=False,
        break_long_words=False,
        initial_indent=indent,
        subsequent_indent=indent,
    )
    return f'    "{name}": """\n{wrapped}\n    """,\n'


def test_the_table_is_that_of_the_installed_package():
    assert TABLE.read_text() == generated()


if __name__ == "__main__":
    TABLE.write_text(generated())
