"""ADK's events and contents in their two spellings, without google-adk.

Stored (``event_data``) they are in snake_case, in REST in camelCase, both without nulls. Free-form values (state,
arguments and responses of functions, custom metadata, …) are kept as they are, including nulls.

Input is validated against the table in ``fields``: anything that google-adk could not read again is rejected. Stored
data is only renamed and never rejected, because a newer ADK may have written it.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import cache, partial
from typing import Any

from pydantic_core import SchemaSerializer, SchemaValidator, ValidationError, core_schema, from_json

from session_manager.domain.adk.fields import MODELS

__all__ = ["Codec", "ValidationError", "camel", "from_json", "schema_of"]

CONFIG = core_schema.CoreConfig(
    ser_json_bytes="base64", val_json_bytes="base64", validate_by_name=True, validate_by_alias=True
)
SCALARS: dict[str, Callable[[], core_schema.CoreSchema]] = {
    "str": core_schema.str_schema,
    "int": core_schema.int_schema,
    "uint": lambda: core_schema.int_schema(ge=0),
    "float": core_schema.float_schema,
    "bool": core_schema.bool_schema,
    "bytes": core_schema.bytes_schema,
    "any": core_schema.any_schema,
}
FIELD = re.compile(r"(?P<name>\w+):(?P<type>[^?!=#]+)(?P<null>\??)(?P<must>!?)(=(?P<alias>\w+))?(#(?P<default>\w+))?")
UNION = re.compile(r"\|(?![^\[]*\])")
EMPTY: dict[str, Callable[[], Any]] = {"str": str, "bool": bool}
DEFAULTS = {"true": True, "false": False}


def camel(name: str) -> str:
    """Return the name in camelCase: ``state_delta`` becomes ``stateDelta``."""
    first, *others = name.split("_")
    return first + "".join(each.capitalize() for each in others)


def schema_of(type_: str, *, strict: bool) -> core_schema.CoreSchema:
    """Return the schema of a type. A ``strict`` one validates input; the other has only what renaming needs."""
    if type_[0] in "[{<":
        return _container(type_, strict=strict)
    if "|" in type_ or type_[0] == "'":
        return _one_of(UNION.split(type_)) if strict else core_schema.any_schema()
    if type_ in SCALARS:
        return SCALARS[type_]() if strict else core_schema.any_schema()
    return _model(type_, strict)


def _container(type_: str, *, strict: bool) -> core_schema.CoreSchema:
    inner = schema_of(type_[1:-1], strict=strict)
    if type_[0] == "{":
        return core_schema.dict_schema(core_schema.str_schema(), inner)
    if type_[0] == "<" and strict:
        return core_schema.no_info_after_validator_function(sorted, core_schema.set_schema(inner))
    return core_schema.list_schema(inner)


def _one_of(types: list[str]) -> core_schema.CoreSchema:
    if types[0].startswith("'"):
        return core_schema.literal_schema([each.strip("'") for each in types])
    return core_schema.union_schema([schema_of(each, strict=True) for each in types])


@cache
def _model(name: str, strict: bool) -> core_schema.CoreSchema:
    extra, *fields = MODELS[name].split()
    manner: Any = extra if strict else "allow"
    typed = {match["name"]: _field(match, strict=strict) for match in map(FIELD.fullmatch, fields) if match}
    model: core_schema.CoreSchema = core_schema.typed_dict_schema(typed, extra_behavior=manner, config=CONFIG)
    return RULES.get(name, lambda each: each)(model) if strict else model


def _field(match: re.Match[str], *, strict: bool) -> core_schema.TypedDictField:
    schema = schema_of(match["type"], strict=strict)
    if match["null"] or not strict:
        schema = core_schema.nullable_schema(schema)
    default = _default(match) if strict else None
    if default is not None:
        schema = core_schema.with_default_schema(schema, default_factory=default)
    alias = match["alias"] or camel(match["name"])
    required = strict and bool(match["must"])
    return core_schema.typed_dict_field(schema, required=required, validation_alias=alias, serialization_alias=alias)


def _default(match: re.Match[str]) -> Callable[[], Any] | None:
    given, type_ = match["default"], match["type"]
    if given is not None:
        return lambda: DEFAULTS.get(given, given)
    if match["null"] or match["must"] or type_ == "float":
        return None
    if type_[0] == "{":
        return dict
    return EMPTY.get(type_) or (lambda: _validator(type_).validate_python({}))


@cache
def _validator(type_: str) -> SchemaValidator:
    return SchemaValidator(schema_of(type_, strict=True), CONFIG)


def _whole_cache(value: dict[str, Any]) -> dict[str, Any]:
    active = {value.get(name) is not None for name in ("cache_name", "expire_time", "invocations_used")}
    if len(active) > 1:
        raise ValueError("cache_name, expire_time and invocations_used must be given together")
    return value


def _whole_account(value: dict[str, Any]) -> dict[str, Any]:
    if not value.get("use_default_credential") and value.get("service_account_credential") is None:
        raise ValueError("service_account_credential or use_default_credential must be given")
    if value.get("use_id_token") and not value.get("audience"):
        raise ValueError("use_id_token needs an audience")
    return value


def _older_citations(value: Any) -> Any:
    if isinstance(value, dict) and "citationSources" in value:
        value = dict(value)
        value["citations"] = value.pop("citationSources")
    return value


def _short_forms(value: Any) -> Any:
    """Expand Event's short forms: ``message``, ``state``, ``route`` and ``node_path``."""
    if not isinstance(value, dict):
        return value
    value = dict(value)
    message = value.pop("message", None)
    if message is not None:
        if value.get("content") is not None:
            raise ValueError("message and content exclude each other")
        value["content"] = content_of(message)
    _put_inside(value, "actions", {"state_delta": value.pop("state", None), "route": value.pop("route", None)})
    _put_inside(value, "node_info", {"path": value.pop("node_path", None)})
    return value


def _put_inside(value: dict[str, Any], name: str, fields: dict[str, Any]) -> None:
    given = {field: each for field, each in fields.items() if each is not None}
    inner = value.get(name)
    if given and (inner is None or isinstance(inner, dict)):
        value[name] = {**(inner or {}), **given}


def content_of(message: Any) -> Any:
    """Return a content for a text, a part, or a list of these. Anything else is left for validation to reject."""
    if isinstance(message, dict) and not message.keys() & {"parts", "role"}:
        calls = message.keys() & {"functionCall", "function_call"}
        return {"parts": [message], "role": "model" if calls else "user"}
    if isinstance(message, str | list):
        parts = message if isinstance(message, list) else [message]
        return {"parts": [{"text": each} if isinstance(each, str) else each for each in parts], "role": "user"}
    return message


RULES: dict[str, Callable[[Any], Any]] = {
    "CacheMetadata": partial(core_schema.no_info_after_validator_function, _whole_cache),
    "ServiceAccount": partial(core_schema.no_info_after_validator_function, _whole_account),
    "CitationMetadata": partial(core_schema.no_info_before_validator_function, _older_citations),
    "Event": partial(core_schema.no_info_before_validator_function, _short_forms),
}


class Codec:
    """One model in both spellings."""

    def __init__(self, model: str) -> None:
        self.schema = schema_of(model, strict=True)
        self._validator = _validator(model)
        self._stored = SchemaSerializer(self.schema, CONFIG)
        self._renaming = SchemaSerializer(schema_of(model, strict=False), CONFIG)

    def validate(self, value: Any) -> dict[str, Any]:
        """Return a JSON value in either spelling as a checked value with stored names. Raises ValidationError."""
        checked: dict[str, Any] = self._validator.validate_python(value)
        return checked

    def stored(self, checked: dict[str, Any]) -> str:
        """Return a result of ``validate`` as the JSON text that is stored."""
        return self._stored.to_json(checked, exclude_none=True, warnings=False).decode()

    def rest(self, stored: Any) -> bytes:
        """Return a stored JSON value as REST shows it."""
        return self._renaming.to_json(stored, by_alias=True, exclude_none=True, warnings=False)
