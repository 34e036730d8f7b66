"""The table of routes, with the callers, the limit, the size of the body and the handler of each.

Routing, admission, identity, limits, OpenAPI and the tests of foreign callers are made from this table, and there is no
route without a rule. The order of a request is always the same (front.py): admission, identity, right or audience,
limit, bound of the body, body, handler.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from enum import StrEnum
from functools import cached_property
from typing import Any

from fastapi.responses import PlainTextResponse

from session_manager.api import backups, chat, messages, operations, pages, schemas, sessions
from session_manager.api.adk import apps, artifacts, run
from session_manager.api.adk import sessions as adk_sessions
from session_manager.api.adk.inputs import MAX_ADK_BODY, MAX_STATE_BODY
from session_manager.api.call import MAX_BODY, MAX_CHAT_BODY
from session_manager.api.errors import Answer, json_answer
from session_manager.api.limits import Limit
from session_manager.domain.access import Right
from session_manager.domain.values import Json


class Audience(StrEnum):
    """The callers of a route that is not about one session."""

    OPEN = "open"  # anybody, also without a key
    METRICS = "metrics"  # any key
    KEYS = "keys"  # any key, while this instance serves
    ADMINS = "admins"  # keys that act for no user


OPEN, KEYS, ADMINS = Audience.OPEN, Audience.KEYS, Audience.ADMINS
READ, WRITE, WAKE, MANAGE = Right.READ, Right.WRITE, Right.WAKE, Right.MANAGE


class Door(StrEnum):
    """The prefix of a route, and the shape of its errors."""

    OURS = "ours"  # at the root
    ADK = "adk"  # under /adk and at the root
    ADK_ONLY = "adk only"  # under /adk


NO_SESSION = json_answer(404, {"detail": "Session not found"})
NO_APP = json_answer(404, {"detail": "Agent not found"})
NO_ARTIFACT = json_answer(404, {"detail": "Artifact not found"})
NO_VERSION = json_answer(404, {"detail": "Artifact version not found"})
NO_MEMORIES = json_answer(200, {"memories": []})
NO_LIST = json_answer(200, [])
NO_STATE = json_answer(200, {})
NOTHING = json_answer(200, None)


@dataclass(frozen=True)
class Rule:
    """One route. ``body`` is the bound of its body in bytes, 0 for routes that read none.

    ``pods``: it takes the token of a turn. ``user_in_body``: the body names the user for whom a service is counted.
    ``unknown``: ADK's answer about what is not found, or belongs to a user for whom the caller does not act.
    ``described``: the signature for OpenAPI of a handler that is plain ASGI. ``gives``: the model of its answer.
    ``openapi``: more options of FastAPI's for it.
    """

    method: str
    path: str
    who: Right | Audience
    limit: Limit | None
    handler: Callable[..., Any]
    body: int = 0
    pods: bool = False
    user_in_body: bool = False
    door: Door = Door.OURS
    unknown: Answer = NO_SESSION
    described: Callable[..., Any] | None = None
    tag: str = ""
    gives: Any = None
    status: int = 200
    openapi: Json = field(default_factory=dict)

    @cached_property
    def anonymous(self) -> bool:
        return self.who is OPEN

    @cached_property
    def admitted(self) -> bool:
        """Return True if only the instance that owns the data serves the route."""
        return self.who not in (Audience.OPEN, Audience.METRICS)

    @cached_property
    def adk(self) -> bool:
        return self.door is not Door.OURS


def _group(tag: str, *rules: Rule, door: Door = Door.OURS) -> tuple[Rule, ...]:
    return tuple(replace(rule, tag=tag, door=rule.door if rule.door is not Door.OURS else door) for rule in rules)


def _header(name: str, description: str) -> Json:
    return {"name": name, "in": "header", "required": False, "schema": {"type": "string"}, "description": description}


HIDDEN = {"include_in_schema": False}
SESSION = "/session/{session_id}"
MESSAGE = SESSION + "/messages/{message_id}"
BACKUPS = "/admin/backups"
BACKUP = BACKUPS + "/{name}"
APP = "/apps/{app_name}"
USER = APP + "/users/{user_id}"
ADK_SESSIONS = USER + "/sessions"
ADK_SESSION = ADK_SESSIONS + "/{session_id}"
ARTIFACTS = ADK_SESSION + "/artifacts"
ARTIFACT = ARTIFACTS + "/{artifact_name:path}"

_CHAT = {
    "responses": {
        202: {"model": schemas.ChatQueued, "description": "Durably accepted; it waits or still runs. See Location."},
        200: {"content": {"text/event-stream": {}}, "description": "The turn ended; or its live stream."},
    },
    "openapi_extra": {
        "parameters": [
            _header("Idempotency-Key", "Repeat a message safely: the same key and body is the same message."),
            _header("Prefer", "wait=N: hold the answer up to N seconds, 300 at most."),
        ]
    },
}
_STREAM: Json = {"responses": {200: {"content": {"text/event-stream": {}}}}}
_TEXT: Json = {"responses": {200: {"content": {"text/plain": {}}}}}
_NOT_READY = {"responses": {503: {"description": "Not yet, or not any more; `detail` says why."}}}
_UNHEALTHY = {"responses": {503: {"model": operations.HealthAnswer}}}

OURS = (
    *_group(
        "turns",
        Rule(
            "POST",
            f"{SESSION}/chat",
            WRITE,
            Limit.CHAT,
            chat.chat,
            MAX_CHAT_BODY,
            described=chat.described,
            gives=schemas.ChatProcessed,
            openapi=_CHAT,
        ),
        Rule("GET", f"{SESSION}/messages", READ, Limit.READ, messages.list_messages, gives=schemas.MessageList),
        Rule("GET", MESSAGE, READ, Limit.READ, messages.get_message, gives=schemas.MessageAnswer),
        Rule("POST", f"{MESSAGE}/cancel", WRITE, Limit.READ, messages.cancel, gives=schemas.MessageAnswer),
        Rule("GET", f"{SESSION}/events", READ, Limit.READ, messages.events, openapi=_STREAM),
    ),
    *_group(
        "sessions",
        Rule(
            "POST",
            "/session/create",
            KEYS,
            Limit.CREATE,
            sessions.create,
            MAX_BODY,
            user_in_body=True,
            gives=schemas.CreateAnswer,
            status=201,
        ),
        Rule("GET", SESSION, READ, Limit.READ, sessions.look, gives=schemas.SessionAnswer),
        Rule("GET", f"{SESSION}/status", READ, Limit.READ, sessions.look, gives=schemas.SessionAnswer),
        Rule("GET", "/sessions", KEYS, Limit.READ, sessions.list_sessions, gives=schemas.SessionList),
        Rule("GET", "/usage", KEYS, Limit.READ, sessions.usage, gives=schemas.UsageAnswer),
        Rule("GET", f"{SESSION}/logs", READ, Limit.READ, sessions.logs, openapi={"response_class": PlainTextResponse}),
        Rule("PATCH", SESSION, MANAGE, Limit.READ, sessions.rename, MAX_BODY, gives=schemas.SessionAnswer),
        Rule("POST", f"{SESSION}/wake", WAKE, Limit.WAKE, sessions.wake, MAX_BODY, gives=schemas.ActionAnswer),
        Rule("POST", f"{SESSION}/sleep", WAKE, Limit.CHANGE, sessions.sleep, gives=schemas.ActionAnswer),
        Rule("DELETE", SESSION, MANAGE, Limit.DELETE, sessions.delete, gives=schemas.DeleteAnswer),
    ),
    *_group(
        "operations",
        Rule("GET", "/livez", OPEN, None, operations.alive),
        Rule("GET", "/readyz", OPEN, None, operations.ready, openapi=_NOT_READY),
        Rule("GET", "/health", OPEN, Limit.READ, operations.health, gives=operations.HealthAnswer, openapi=_UNHEALTHY),
        Rule("GET", "/metrics", Audience.METRICS, Limit.READ, operations.show, openapi=_TEXT),
        Rule("GET", "/openapi.json", OPEN, None, operations.openapi, openapi=HIDDEN),
        Rule("GET", "/docs", OPEN, None, pages.docs, openapi=HIDDEN),
        *(Rule("GET", f"/docs/{name}", OPEN, Limit.READ, pages.file(name), openapi=HIDDEN) for name in pages.FILES),
        Rule("GET", BACKUPS, ADMINS, Limit.READ, backups.list_backups, gives=backups.BackupList),
        Rule("POST", BACKUPS, ADMINS, Limit.CHANGE, backups.create_backup, gives=backups.BackupAnswer, status=202),
        Rule("GET", BACKUP, ADMINS, Limit.READ, backups.get_backup, gives=backups.BackupAnswer),
        Rule("POST", f"{BACKUP}/verify", ADMINS, Limit.CHANGE, backups.verify_backup, gives=backups.BackupVerdict),
    ),
)

_VERSION = f"{ARTIFACT}/versions/{{version_id}}"
_VERSIONS_METADATA = f"{ARTIFACT}/versions/metadata"

ADK = (
    *_group(
        "apps",
        Rule("GET", "/health", OPEN, None, apps.health, door=Door.ADK_ONLY),
        Rule("GET", "/openapi.json", OPEN, None, operations.openapi_of_adk, door=Door.ADK_ONLY, openapi=HIDDEN),
        Rule("GET", "/docs", OPEN, None, pages.docs_of_adk, door=Door.ADK_ONLY, openapi=HIDDEN),
        Rule("GET", "/version", KEYS, Limit.READ, apps.version, door=Door.ADK_ONLY),
        Rule("GET", "/list-apps", KEYS, Limit.READ, apps.list_apps),
        Rule("GET", f"{APP}/app-info", KEYS, Limit.READ, apps.get_app_info, unknown=NO_APP),
        door=Door.ADK,
    ),
    *_group(
        "sessions",
        Rule("GET", ADK_SESSION, READ, Limit.READ, adk_sessions.get_session, pods=True),
        Rule("GET", ADK_SESSIONS, KEYS, Limit.READ, adk_sessions.list_sessions, unknown=NO_LIST),
        Rule("GET", f"{APP}/sessions", KEYS, Limit.READ, adk_sessions.list_all_users_sessions, unknown=NO_LIST),
        Rule("POST", ADK_SESSIONS, KEYS, Limit.CREATE, adk_sessions.create_session, MAX_STATE_BODY),
        Rule(
            "POST",
            ADK_SESSION,
            KEYS,
            Limit.CREATE,
            adk_sessions.create_session_with_id,
            MAX_STATE_BODY,
            openapi={"deprecated": True},
        ),
        Rule("PATCH", ADK_SESSION, WRITE, Limit.CHANGE, adk_sessions.update_session, MAX_STATE_BODY),
        Rule("DELETE", ADK_SESSION, MANAGE, Limit.DELETE, adk_sessions.delete_session, unknown=NOTHING),
        Rule("POST", f"{ADK_SESSION}/events", WRITE, Limit.CHANGE, adk_sessions.append_events, MAX_ADK_BODY, pods=True),
        door=Door.ADK,
    ),
    *_group(
        "artifacts",
        Rule("POST", ARTIFACTS, WRITE, Limit.CHANGE, artifacts.save_artifact, MAX_ADK_BODY),
        Rule("GET", ARTIFACTS, READ, Limit.READ, artifacts.list_artifact_names, unknown=NO_LIST),
        Rule(
            "GET", f"{_VERSION}/metadata", READ, Limit.READ, artifacts.get_artifact_version_metadata, unknown=NO_VERSION
        ),
        Rule("GET", _VERSIONS_METADATA, READ, Limit.READ, artifacts.list_artifact_versions_metadata, unknown=NO_LIST),
        Rule("GET", f"{ARTIFACT}/versions", READ, Limit.READ, artifacts.list_artifact_versions, unknown=NO_LIST),
        # The rest comes last: names may contain slashes, and would match the paths before.
        Rule("GET", _VERSION, READ, Limit.READ, artifacts.load_artifact_version, unknown=NO_ARTIFACT),
        Rule("GET", ARTIFACT, READ, Limit.READ, artifacts.load_artifact, unknown=NO_ARTIFACT),
        Rule("DELETE", ARTIFACT, WRITE, Limit.CHANGE, artifacts.delete_artifact, unknown=NOTHING),
        door=Door.ADK,
    ),
    *_group(
        "users",
        Rule("PATCH", f"{USER}/memory", WRITE, Limit.CHANGE, adk_sessions.patch_memory, MAX_BODY),
        Rule("GET", f"{USER}/memory", KEYS, Limit.READ, adk_sessions.search_memory, unknown=NO_MEMORIES),
        Rule("GET", f"{USER}/state", KEYS, Limit.READ, adk_sessions.get_user_state, unknown=NO_STATE),
        door=Door.ADK,
    ),
    *_group(
        "runs",
        Rule("POST", "/run", WRITE, Limit.CHAT, run.run, MAX_ADK_BODY, user_in_body=True),
        Rule("POST", "/run_sse", WRITE, Limit.CHAT, run.run_sse, MAX_ADK_BODY, user_in_body=True),
        door=Door.ADK,
    ),
)
RULES = OURS + ADK
