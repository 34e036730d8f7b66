"""Parameters and bodies of requests and answers, as OpenAPI shows them."""

from __future__ import annotations

from typing import Annotated, Literal

from fastapi import Path
from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, StringConstraints

from session_manager.domain.errors import InvalidInput
from session_manager.domain.session import Status
from session_manager.domain.values import LONGEST_ID, MESSAGE_ID, SESSION_ID, Json, valid_user_id

EXAMPLE_ID = "3f2b8a52-6f0e-4c53-9a0e-5c8f3f0f8d11"
EXAMPLE_MESSAGE = "01a1fe32-927a-79a2-8a12-9a85cc0c4483"
EXAMPLE_TIME = "2026-01-31T12:00:00.250Z"

SessionId = Annotated[str, Path(pattern=f"^{SESSION_ID}$", examples=[EXAMPLE_ID]), AfterValidator(str.lower)]
MessageId = Annotated[str, Path(pattern=f"^{MESSAGE_ID}$", examples=[EXAMPLE_MESSAGE]), AfterValidator(str.lower)]


def _user_id(value: object) -> str:
    try:
        return valid_user_id(value)
    except InvalidInput as error:
        raise ValueError(error.detail.partition(": ")[2]) from None


def _printable(value: str) -> str:
    if not value.isprintable():
        raise ValueError("must be printable characters")
    return value


UserId = Annotated[str, BeforeValidator(_user_id), Field(min_length=1, max_length=LONGEST_ID, examples=["ada"])]
Name = Annotated[
    str, StringConstraints(strip_whitespace=True, min_length=1, max_length=200), AfterValidator(_printable)
]
ClassName = Annotated[str, StringConstraints(pattern=r"^[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?$")]


class CreateRequest(BaseModel):
    model_config = ConfigDict(
        json_schema_extra={"examples": [{"user_id": "ada", "class": "default", "name": "My first session"}]}
    )
    user_id: UserId
    class_name: Annotated[ClassName, Field(alias="class")] = "default"
    name: Name | None = Field(None, examples=["My first session"])


class CreateAnswer(BaseModel):
    uuid: str = Field(examples=[EXAMPLE_ID])
    user_id: str = Field(examples=["ada"])
    status: Status = Field(examples=["created"])
    created_at: str = Field(examples=[EXAMPLE_TIME])
    expires_at: str = Field(examples=[EXAMPLE_TIME])


class SessionRow(BaseModel):
    uuid: str = Field(examples=[EXAMPLE_ID])
    user_id: str = Field(examples=["ada"])
    name: str | None = Field(examples=["My first session"])
    class_name: str = Field(alias="class", examples=["default"])
    status: Status = Field(examples=["sleeping"])
    created_at: str = Field(examples=[EXAMPLE_TIME])
    last_activity: str = Field(examples=[EXAMPLE_TIME])


class FailureAnswer(BaseModel):
    """The reason why a pod cannot start."""

    reason: str = Field(examples=["ImagePullFailed"])
    remedy: str = Field(examples=["check the image's name and its pull secrets"])
    next_try: str = Field(description="When the start is tried again.", examples=[EXAMPLE_TIME])
    tries: int = Field(description="Starts that failed one after the other.", examples=[1])


class SessionAnswer(SessionRow):
    app: str = Field(examples=["default"])
    status: Status = Field(examples=["awake"])
    reason: str = Field(description="Why it is awake, or why not.", examples=["awake until 2026-01-31T12:02:00.250Z"])
    failure: FailureAnswer | None = Field(None, description="Why the pod cannot start.", examples=[None])
    phase: str = Field(description="Progress of a start, as text.", examples=["awake"])
    replicas: int = Field(description="Pods wanted: 1 while waking or awake.", examples=[1])
    ready_replicas: int = Field(description="Pods that answer.", examples=[1])
    queue_length: int = Field(description="Messages without a result that wait or run.", examples=[0])
    expires_at: str = Field(examples=[EXAMPLE_TIME])
    stale: bool = Field(False, description="True when Redis is away and only SQL was asked.")


class SessionList(BaseModel):
    total: int = Field(description="Sessions that fit, on all pages.", examples=[1])
    sessions: list[SessionRow]
    next_cursor: str | None = Field(description="None on the last page.", examples=[None])
    stale: bool = Field(False, description="True when Redis is away and only SQL was asked.")


class Share(BaseModel):
    used: int = Field(examples=[3])
    limit: int | None = Field(description="null: any number.", examples=[1000])


class UsageAnswer(BaseModel):
    user_id: str = Field(examples=["ada"])
    sessions: Share = Field(description="Without deleted and expired ones.", examples=[{"used": 3, "limit": 1000}])
    awake: Share = Field(
        description="Sessions with a pod, and those that want one.", examples=[{"used": 3, "limit": 1000}]
    )
    messages: Share = Field(description="Messages without a result.", examples=[{"used": 3, "limit": 1000}])
    stored_bytes: Share = Field(
        description="Counted in steps of 64 KiB per session.", examples=[{"used": 3, "limit": 1000}]
    )
    stale: bool = Field(False, description="True when Redis is away and only SQL was asked.")


class RenameRequest(BaseModel):
    name: Name | None = Field(examples=["Holiday plans"])


class WakeRequest(BaseModel):
    keep_awake_seconds: float = Field(0, ge=0, le=3600, description="Stay awake at least that long; an hour at most.")


class ActionAnswer(BaseModel):
    uuid: str = Field(examples=[EXAMPLE_ID])
    action: Literal["wake", "sleep"] = Field(examples=["wake"])
    status: Status = Field(examples=["waking"])
    message: str = Field(examples=["The pod is starting."])


class DeleteAnswer(BaseModel):
    uuid: str = Field(examples=[EXAMPLE_ID])
    status: Literal["terminated"]
    message: str = Field(examples=["The session is deleted."])


class ChatRequest(BaseModel):
    message: str = Field(min_length=1, description="1 character to 1 MiB of UTF-8, no NUL.", examples=["Hello"])


class ChatProcessed(BaseModel):
    uuid: str = Field(examples=[EXAMPLE_ID])
    status: Literal["processed", "failed"] = Field(examples=["processed"])
    message_id: str = Field(examples=[EXAMPLE_MESSAGE])
    pod_response: Json | None = Field(None, examples=[{"reply": "Hello"}])
    error: str | None = Field(None, description="Why a turn failed.", examples=[None])


class ChatQueued(BaseModel):
    uuid: str = Field(examples=[EXAMPLE_ID])
    status: Literal["queued", "running"] = Field(examples=["queued"])
    message: str = Field(examples=["The pod is waking up; your message is next."])
    message_id: str = Field(examples=[EXAMPLE_MESSAGE])
    position: int = Field(description="1 is the next to run, 0 runs.", examples=[1])
    failure: FailureAnswer | None = Field(None, description="Why the pod cannot start.", examples=[None])


class MessageAnswer(BaseModel):
    message_id: str = Field(examples=[EXAMPLE_MESSAGE])
    status: Literal["queued", "running", "processed", "failed"] = Field(examples=["processed"])
    message: str = Field(examples=["Hello"])
    pod_response: Json | None = Field(examples=[{"reply": "Hello"}])
    error: str | None = Field(description="Why a turn failed.", examples=[None])
    created_at: str = Field(examples=[EXAMPLE_TIME])
    finished_at: str | None = Field(examples=[EXAMPLE_TIME])


class MessageList(BaseModel):
    messages: list[MessageAnswer]
    next_cursor: str | None = Field(description="None on the last page.", examples=[None])


class Problem(BaseModel):
    """RFC 9457."""

    type: str = Field(examples=["about:blank"])
    title: str = Field(examples=["Not found"])
    status: int = Field(examples=[404])
    detail: str = Field(examples=["no such session"])
    field: str | None = Field(None, description="What is wrong in the input.", examples=[None])
    quota: str | None = Field(None, description="The limit that would be exceeded.", examples=[None])
    limit: int | None = Field(None, description="Its value.", examples=[None])
    used: int | None = Field(None, description="What the user has of it, without this request.", examples=[None])
