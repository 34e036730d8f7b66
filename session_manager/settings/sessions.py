"""Sessions and their turns, the pods that answer them, and what agents in pods are given."""

from __future__ import annotations

import re
from typing import Annotated, Literal, NamedTuple, Self

from pydantic import BeforeValidator, Field, PlainValidator, model_validator
from pydantic_core import PydanticCustomError

from session_manager.domain.errors import InvalidInput, StartupFailure
from session_manager.domain.quota import Quota, Quotas
from session_manager.domain.values import valid_user_id
from session_manager.settings.kinds import (
    FilePath,
    Flag,
    Group,
    LongSeconds,
    Networks,
    Port,
    Seconds,
    Secret,
    Text,
    UpTo100000,
    Url,
    expects,
    printable,
)

Runtime = Annotated[
    Literal["process", "kubernetes"], BeforeValidator(str.lower), expects("runtime", "process or kubernetes")
]
Namespace = Annotated[
    str,
    Field(pattern=r"^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$"),
    expects("namespace", "a lower-case DNS label of at most 63 characters"),
]
Label = Annotated[
    str,
    Field(pattern=r"^[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?$"),
    expects("id", "at most 63 letters, digits, '-', '_' and '.', as in the value of a label"),
]
Image = Annotated[
    str,
    Field(pattern=r"^[A-Za-z0-9][-A-Za-z0-9._:/@]*$"),
    expects("image", "a reference like registry.example/agent:1.2"),
]


MOST = 10**9
MOST_BYTES = 10**15


class NamedLimit(NamedTuple):
    """The limit of that name of one user."""

    user: str
    name: str
    value: int


def _quantity(text: object, most: int = MOST) -> int:
    if isinstance(text, str) and text.lower() == "off":
        return 0
    quantity = int(str(text))
    if not 0 <= quantity <= most:
        raise ValueError
    return quantity


def _size(text: object) -> int:
    found = re.fullmatch(r"(\d+)\s*([kKMGT]?)(i?)B?", str(text))
    if found is None:
        return _quantity(text)
    number, unit, binary = found.groups()
    return _quantity(int(number) * (1024 if binary else 1000) ** " KMGT".index(unit.upper() or " "), MOST_BYTES)


def _quota_list(text: str) -> tuple[NamedLimit, ...]:
    return tuple(_named_limit(entry.strip()) for entry in text.strip().split(",") if entry.strip())


def _named_limit(entry: str) -> NamedLimit:
    left, _, value = entry.rpartition("=")
    user, _, name = left.rpartition(".")
    if name not in Quota._fields:
        raise _wrong(entry, f"user.name=value, where name is {', '.join(Quota._fields)}")
    try:
        return NamedLimit(valid_user_id(user), name, _size(value.strip()))
    except InvalidInput as error:
        raise _wrong(entry, f"a user before .{name}, which {error.detail.partition(': ')[2]}") from None
    except ValueError:
        kinds = "a size like 500MB or 2GB" if name == "stored" else "a whole number"
        raise _wrong(entry, f"{kinds}, or off, after {name}=") from None


def _wrong(entry: str, expected: str) -> PydanticCustomError:
    found = "limit" if "://" in entry else f'limit "{printable(entry[:80])}"'  # a misplaced URL may have a password
    return PydanticCustomError("setting", f"invalid {found}; expected {expected}")


Quantity = Annotated[int, PlainValidator(_quantity), expects("number", "a whole number from 0 to 1000000000, or off")]
Size = Annotated[int, PlainValidator(_size), expects("size", "from 0 to 1000TB like 500MB or 2GB, or off")]
QuotaList = Annotated[tuple[NamedLimit, ...], PlainValidator(_quota_list)]  # each wrong entry has its own error


class SessionSettings(Group):
    ttl: LongSeconds = Field(86_400.0, alias="SESSION_TTL")
    """Seconds without activity until a session expires: one day."""
    idle_timeout: LongSeconds = Field(120.0, alias="IDLE_TIMEOUT")
    """Seconds after a turn until the pod sleeps: time to read and answer."""
    lease: Seconds = Field(15.0, alias="LEASE")
    """Seconds a turn's lease is valid. It is renewed three times, so two may fail."""
    answer_within: Seconds = Field(30.0, alias="ANSWER_WITHIN")
    """Seconds until a running turn is answered 202. Less than proxies wait (60)."""
    repair_interval: Seconds = Field(2.0, alias="REPAIR_INTERVAL")
    """Seconds between repairs, and the age of messages they check. Each is one query."""
    max_drains: UpTo100000 = Field(256, alias="MAX_DRAINS")
    """Sessions whose queues one front door drains at once. A quarter, for one user, is more than AWAKE_PER_USER."""


class QuotaSettings(Group):
    """The limits of one user. 0 or off: no limit."""

    sessions: Quantity = Field(1000, alias="SESSIONS_PER_USER")
    """Sessions of one user, without deleted and expired ones; 0 or off: any number. More than a person opens."""
    awake: Quantity = Field(50, alias="AWAKE_PER_USER")
    """Awake pods of one user; 0 or off: any number. One more session waits until one of them goes to sleep."""
    wakes: Quantity = Field(8, alias="WAKES_PER_USER")
    """Pods of one user that start at once; 0 or off: MAX_WAKES. A quarter of MAX_WAKES leaves places for others."""
    session_messages: Quantity = Field(100, alias="MESSAGES_PER_SESSION")
    """Messages of one session without a result; 0 or off: any number. More than a person sends ahead."""
    messages: Quantity = Field(1000, alias="MESSAGES_PER_USER")
    """Messages of one user without a result; 0 or off: any number. The first of a session is always accepted."""
    stored: Size = Field(1024**3, alias="STORED_PER_USER")
    """Bytes that one user stores, like 500MB or 2GB; 0 or off: any number. About a hundred large files."""
    named: QuotaList = Field((), alias="QUOTAS")
    """Other limits for some users: comma-separated user.name=value, where name is sessions, awake, wakes,
    session_messages, messages or stored, like ada.sessions=5000,robot.awake=off."""

    @property
    def by_user(self) -> Quotas:
        """The limits of every user."""
        default = Quota(self.sessions, self.awake, self.wakes, self.session_messages, self.messages, self.stored)
        named: dict[str, Quota] = {}
        for user, name, limit in self.named:
            named[user] = named.get(user, default)._replace(**{name: limit})
        return Quotas(default, named)


class PodSettings(Group):
    runtime: Runtime = Field("process", alias="SESSION_RUNTIME")
    """The runtime of pods: process or kubernetes."""
    classes: FilePath | None = Field(None, alias="SESSION_CLASSES")
    """YAML file of SessionClasses for the process runtime."""
    front_door_url: Url | None = Field(None, alias="SESSION_MANAGER_URL")
    """Address at which pods reach this service. By default, for process pods, the address where the front door
    listens."""
    max_wakes: UpTo100000 = Field(32, alias="MAX_WAKES")
    """Pods that start at once."""
    max_awake: Quantity = Field(0, alias="MAX_AWAKE")
    """Awake pods altogether; 0 or off: any number. What fits depends on the machine and the agents, so set it to the
    memory for pods divided by that of one."""
    retry_first: Seconds = Field(5.0, alias="RETRY_FIRST")
    """Seconds until a failed start is tried again; doubles each time."""
    retry_last: Seconds = Field(300.0, alias="RETRY_LAST")
    """Longest pause in seconds between tries of a failed start."""
    heartbeat: Seconds = Field(5.0, alias="HEARTBEAT")
    """Seconds for which pod addresses are trusted without a heartbeat. It is sent five times in that time. The pods
    of a silent machine may be taken over after up to twice that."""

    @model_validator(mode="after")
    def _first_retry_before_last(self) -> Self:
        # A default is not contradicted: the back-off caps its first pause like every other.
        if "retry_first" in self.model_fields_set and self.retry_first > self.retry_last:
            raise StartupFailure(
                f'RETRY_FIRST: invalid number of seconds "{self.retry_first:g}"; '
                f"expected RETRY_LAST ({self.retry_last:g}) or less"
            )
        return self


class KubernetesSettings(Group):
    namespace: Namespace = Field("sessions", alias="SESSIONS_NAMESPACE")
    """Namespace of Sessions, SessionClasses and their pods."""
    install_id: Label = Field("session-manager", alias="INSTALL_ID")
    """Marks the Sessions of one installation in a cluster."""
    pod_networks: Networks = Field((), alias="POD_CIDRS")
    """Networks of pods, comma-separated. If set, other addresses are rejected."""
    image: Image | None = Field(None, alias="USER_POD_IMAGE")
    """Image of the default class."""
    port: Port = Field(1111, alias="USER_POD_PORT")
    """Port of the default class."""
    users_assigned: Flag = Field(False, alias="POD_USERS_ASSIGNED")
    """true: the cluster chooses the users of pods, as OpenShift does. By default they are 65532."""


class AgentSettings(Group):
    """Values that are passed to agents only. The server needs none of them."""

    environment: Text = Field("development", alias="ENVIRONMENT")
    """Free text."""
    gemini_api_key: Secret | None = Field(None, alias="GEMINI_API_KEY")
    """Key of Gemini."""
    gemini_model: Text | None = Field(None, alias="GEMINI_MODEL")
    """Model of Gemini."""
    openai_api_key: Secret | None = Field(None, alias="OPENAI_API_KEY")
    """Key of OpenAI."""
    anthropic_api_key: Secret | None = Field(None, alias="ANTHROPIC_API_KEY")
    """Key of Anthropic."""
    google_api_key: Secret | None = Field(None, alias="GOOGLE_API_KEY")
    """Key of Google."""
