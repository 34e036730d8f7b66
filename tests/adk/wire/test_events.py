"""What is stored, the real google-adk reads as the same event; what it dumps, we produce: for events of every shape."""

from __future__ import annotations

import base64
import json
import time
import warnings
from functools import cache
from typing import Any
from uuid import uuid4

import pytest
from google.adk.auth.auth_credential import _redact_credential_secrets
from google.adk.events._internal_metadata import public_event
from google.adk.events.event import Event
from google.adk.sessions.session import Session
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from session_manager.domain.adk import events, wire
from session_manager.domain.adk.fields import MODELS
from session_manager.domain.adk.model import AdkKey, AdkSession

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
FREE = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT | st.just("a_b"), inner, max_size=3),
    max_leaves=6,
)
SCALARS = {
    "str": TEXT,
    "int": st.integers(-(2**70), 2**70),
    "uint": st.integers(0, 2**40),
    "float": st.floats(allow_nan=False, allow_infinity=False) | st.integers(0, 9),
    "bool": st.booleans(),
    "bytes": st.binary(max_size=9).flatmap(
        lambda raw: st.sampled_from([base64.b64encode(raw).decode(), base64.urlsafe_b64encode(raw).decode()])
    ),
    "any": FREE,
}
# Enums of google-adk warn of members that they do not know, and an auth scheme is a union that it cannot read equal.
LEFT_OUT = {"requested_auth_configs"}
REFUSAL = (ValidationError, AttributeError)  # the second where an enum is given what is no string


def values(type_: str) -> st.SearchStrategy[Any]:
    if type_[0] in "[<":
        return st.lists(values(type_[1:-1]), max_size=2)
    if type_[0] == "{":
        return st.dictionaries(TEXT.filter(lambda key: not key.startswith("temp:")), values(type_[1:-1]), max_size=2)
    if "|" in type_ or type_[0] == "'":
        kinds = wire.UNION.split(type_)
        literal = kinds[0].startswith("'")
        return (
            st.sampled_from([each.strip("'") for each in kinds])
            if literal
            else st.one_of([values(kind) for kind in kinds])
        )
    return SCALARS[type_] if type_ in SCALARS else st.deferred(lambda: model(type_))


@cache
def model(name: str) -> st.SearchStrategy[dict[str, Any]]:
    """JSON values of a model, every field in either spelling."""
    if name == "CacheMetadata":
        return st.builds(lambda: {"fingerprint": "f", "contents_count": 2})
    fields = [wire.FIELD.fullmatch(each) for each in MODELS[name].split()[1:]]
    must: dict[str, st.SearchStrategy[Any]] = {}
    may: dict[str, st.SearchStrategy[Any]] = {}
    for field in fields:
        assert field is not None
        if field["name"] in LEFT_OUT:
            continue
        strategy = values(field["type"])
        if field["null"]:
            strategy = st.none() | strategy
        (must if field["must"] else may)[field["name"]] = strategy
    return st.fixed_dictionaries(must, optional=may).flatmap(_spelled)


def _spelled(value: dict[str, Any]) -> st.SearchStrategy[dict[str, Any]]:
    spellings = st.tuples(*(st.sampled_from([name, wire.camel(name)]) for name in value))
    return spellings.map(lambda names: dict(zip(names, value.values(), strict=True)))


def adk(value: Any) -> Event:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return Event.model_validate(value)


EXAMPLES = settings(max_examples=50, deadline=None, database=None, suppress_health_check=list(HealthCheck))


@given(value=model("Event"))
@EXAMPLES
def test_what_is_stored_reads_equal_and_is_shown_equal(value):
    value |= {"id": "e-1", "timestamp": 12.25}
    theirs = adk(value)
    ours = events.parse_event(value, time.time(), uuid4)
    assert adk(json.loads(ours.data)) == theirs
    shown = json.loads(events.event_json(ours.data))
    assert adk(shown) == theirs
    assert (ours.id, ours.timestamp, ours.invocation_id) == (theirs.id, theirs.timestamp, theirs.invocation_id)


@given(value=model("Event"))
@EXAMPLES
def test_what_adk_stored_is_shown_as_adk_shows_it(value):
    theirs = adk(value)
    stored = theirs.model_dump_json(exclude_none=True)
    shown = _redact_credential_secrets(public_event(theirs).model_dump(exclude_none=True, by_alias=True, mode="json"))
    assert json.loads(events.event_json(stored)) == shown


@given(value=model("Event"), path=st.lists(st.integers(0, 3), max_size=4), wrong=FREE)
@EXAMPLES
def test_what_adk_refuses_is_refused(value, path, wrong):
    """One value somewhere is replaced by any other: both take it, or neither does."""
    _replace(value, path, wrong)
    try:
        theirs = adk(value)
    except REFUSAL:
        with pytest.raises(wire.ValidationError):
            events.parse_event(value, time.time(), uuid4)
    else:
        ours = adk(json.loads(events.parse_event(value, time.time(), uuid4).data))
        assert _without_names(ours) == _without_names(theirs)


def _without_names(event: Event) -> dict[str, Any]:
    """Those that are given when an event has none left out."""
    return event.model_dump(exclude={"id", "timestamp"})


def _replace(value: Any, path: list[int], wrong: Any) -> None:
    for step in path:
        inside = list(value.values()) if isinstance(value, dict) else value
        following = inside[step % len(inside)] if inside else None
        if not isinstance(following, dict | list) or not following:
            break
        value = following
    if isinstance(value, dict) and value:
        value[next(iter(value))] = wrong
    elif isinstance(value, list) and value:
        value[0] = wrong


@pytest.mark.filterwarnings("ignore::UserWarning")
@given(value=model("Event"))
@settings(EXAMPLES, max_examples=15)
def test_a_session_is_shown_as_adk_shows_it(value):
    theirs = adk(value)
    session = Session(id="s", app_name="a", user_id="u", state={"x": None, "a_b": {"c_d": 1}}, events=[theirs])
    key = AdkKey("a", "u", "s")
    ours = AdkSession("uuid", key, session.state, 0.0, [theirs.model_dump_json(exclude_none=True)])
    shown = _redact_credential_secrets(session.model_dump(exclude_none=True, by_alias=True, mode="json"))
    assert json.loads(events.session_json(ours)) == shown
    assert Session.model_validate_json(events.session_json(ours)) == session
