"""All settings, typed and checked, built once at the start. No other module reads the environment.

An invalid value ends the start with one line, so that it never fails a request.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Self, cast

from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo

from session_manager.domain.errors import StartupFailure
from session_manager.settings.backup import BackupSettings
from session_manager.settings.capacity import CapacitySettings
from session_manager.settings.database import DatabaseSettings, RedisSettings
from session_manager.settings.kinds import Group
from session_manager.settings.server import LimitSettings, LogSettings, ServerSettings
from session_manager.settings.sessions import (
    AgentSettings,
    KubernetesSettings,
    PodSettings,
    QuotaSettings,
    SessionSettings,
)
from session_manager.settings.traces import TraceSettings

DOT_ENV = Path(".env")


class Settings(BaseModel, frozen=True):
    server: ServerSettings
    capacity: CapacitySettings
    database: DatabaseSettings
    redis: RedisSettings
    sessions: SessionSettings
    quotas: QuotaSettings
    pods: PodSettings
    kubernetes: KubernetesSettings
    limits: LimitSettings
    backup: BackupSettings
    logs: LogSettings
    traces: TraceSettings
    agents: AgentSettings

    @classmethod
    def groups(cls) -> dict[str, type[Group]]:
        """The class of each group, by name."""
        return {name: cast("type[Group]", field.annotation) for name, field in cls.model_fields.items()}

    @classmethod
    def declared(cls) -> dict[str, FieldInfo]:
        """Every setting, by variable."""
        fields = [field for group in cls.groups().values() for field in group.model_fields.values()]
        return {str(field.alias): field for field in fields}

    @classmethod
    def from_environment(cls, **chosen: object) -> Self:
        """Build settings from .env, overridden by the environment, overridden by ``chosen``.

        ``chosen`` are named like their variables, in lower case. None and empty text are not set.
        Raises StartupFailure for an invalid value.
        """
        given: dict[str, Any] = {name.upper(): value for name, value in chosen.items() if value not in (None, "")}
        if unknown := given.keys() - cls.declared().keys():
            raise TypeError(f"unknown settings: {', '.join(unknown)}")
        try:
            return cls(**{name: group(_env_file=DOT_ENV, **given) for name, group in cls.groups().items()})
        except ValidationError as error:
            first = error.errors()[0]
            raise StartupFailure(f"{first['loc'][0]}: {first['msg']}") from None
        except (OSError, UnicodeDecodeError):
            raise StartupFailure(f"{DOT_ENV} cannot be read; expected lines like NAME=value in UTF-8") from None

    def updated(self, group: str, **values: object) -> Self:
        """Return a copy with other values, which are not checked, in a group."""
        return self.model_copy(update={group: getattr(self, group).model_copy(update=values)})

    @property
    def given(self) -> set[str]:
        """The variables that were set, not left at their defaults."""
        groups = [getattr(self, name) for name in self.groups()]
        return {str(type(group).model_fields[name].alias) for group in groups for name in group.model_fields_set}

    @property
    def local_database(self) -> Path:
        """The SQLite file in the data folder, which is used if no setting names another database."""
        return self.server.data_dir / "sessions" / "sessions.db"
