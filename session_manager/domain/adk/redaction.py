"""Secrets of credentials are removed from REST answers, as ADK does."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from session_manager.domain.adk.wire import camel

_SECRETS = [
    "password",
    "token",
    "additional_headers",
    "client_secret",
    "auth_response_uri",
    "auth_code",
    "access_token",
    "refresh_token",
    "id_token",
    "code_verifier",
    "private_key_id",
    "private_key",
    "api_key",
]
_METHODS = ["API_KEY", "HTTP", "OAUTH2", "OPEN_ID_CONNECT", "SERVICE_ACCOUNT"]
CREDENTIAL_CALL = "adk_request_credential"


def _both(names: Iterable[str]) -> frozenset[str]:
    return frozenset(spelling for name in names for spelling in (name, camel(name)))


SECRETS = _both(_SECRETS)
# Names in either case, and values (apiKey, …).
METHODS = _both(each.lower() for each in _METHODS) | frozenset(_METHODS)
METHOD = _both(["auth_type"])
CARRIERS = _both(["raw_auth_credential", "exchanged_auth_credential"])
REQUESTED = _both(["requested_auth_configs"])
CONFIG = _both(["auth_config"])
# A text without any of these words contains no secret.
_WORDS = [f'"{each}"'.encode() for each in (*METHOD, *CARRIERS, CREDENTIAL_CALL)]
_USUALLY_EMPTY = [f'"{each}"'.encode() for each in REQUESTED]


def may_hold_secrets(text: bytes) -> bool:
    """Return False if compact JSON contains no secret. The check is cheap, so that most events are never walked."""
    if any(word in text for word in _WORDS):
        return True
    return any(text.count(name) != text.count(name + b":{}") for name in _USUALLY_EMPTY)


def redacted(value: Any) -> Any:
    """Return a JSON value without the secrets of its credentials."""
    if isinstance(value, list):
        return [redacted(each) if isinstance(each, dict | list) else each for each in value]
    if not isinstance(value, dict):
        return value
    if any(isinstance(value.get(name), str) and value[name] in METHODS for name in METHOD):
        return _stripped(value)
    if value.get("name") == CREDENTIAL_CALL:
        return {name: _of_call(name, each) for name, each in value.items()}
    inside = REQUESTED if value.keys() & REQUESTED else CARRIERS
    return {name: _stripped(each) if name in inside else redacted(each) for name, each in value.items()}


def _of_call(name: str, value: Any) -> Any:
    if name == "args" and isinstance(value, dict):
        return {key: _stripped(each) if key in CONFIG else each for key, each in value.items()}
    return _stripped(value) if name == "response" else redacted(value)


def _stripped(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _stripped(each) for name, each in value.items() if name not in SECRETS}
    if isinstance(value, list):
        return [_stripped(each) for each in value]
    return value
