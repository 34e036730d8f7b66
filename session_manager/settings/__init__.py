"""All settings, typed and checked, built once at the start. No other module reads the environment.

Each file holds one group. An invalid value ends the start with one line, so that it never fails a request.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any, Self

from dotenv import dotenv_values

from session_manager.domain.errors import StartupFailure
from session_manager.settings.agents import AgentSettings
from session_manager.settings.backup import BackupSettings
from session_manager.settings.database import DatabaseSettings
from session_manager.settings.declared import Setting, read, settings_of
from session_manager.settings.kubernetes import KubernetesSettings
from session_manager.settings.limits import LimitSettings
from session_manager.settings.logs import LogSettings
from session_manager.settings.pods import PodSettings
from session_manager.settings.redis import RedisSettings
from session_manager.settings.server import ServerSettings
from session_manager.settings.sessions import SessionSettings

DOT_ENV = Path(".env")


@dataclass(frozen=True, slots=True)
class Settings:
    """``given``: the variables that were set, not left at their defaults."""

    server: ServerSettings = field(default_factory=ServerSettings)
    database: DatabaseSettings = field(default_factory=DatabaseSettings)
    redis: RedisSettings = field(default_factory=RedisSettings)
    sessions: SessionSettings = field(default_factory=SessionSettings)
    pods: PodSettings = field(default_factory=PodSettings)
    kubernetes: KubernetesSettings = field(default_factory=KubernetesSettings)
    limits: LimitSettings = field(default_factory=LimitSettings)
    backup: BackupSettings = field(default_factory=BackupSettings)
    logs: LogSettings = field(default_factory=LogSettings)
    agents: AgentSettings = field(default_factory=AgentSettings)
    given: frozenset[str] = field(default=frozenset(), compare=False)

    @classmethod
    def groups(cls) -> dict[str, Any]:
        """The class of each group, by name."""
        return {each.name: each.default_factory for each in fields(cls) if each.name != "given"}

    @classmethod
    def declared(cls) -> dict[str, Setting]:
        """Every setting, by variable."""
        return {each.variable: each for group in cls.groups().values() for _, each in settings_of(group)}

    @classmethod
    def of(cls, **values: object) -> Self:
        """Build settings from values named like their variables, in lower case. None and empty text are not set.

        Raises StartupFailure for an invalid value.
        """
        given = {name.upper(): value for name, value in values.items() if value not in (None, "")}
        if unknown := given.keys() - cls.declared().keys():
            raise TypeError(f"unknown settings: {', '.join(unknown)}")
        return cls(**{name: read(group, given) for name, group in cls.groups().items()}, given=frozenset(given))

    @classmethod
    def from_environment(cls, **chosen: object) -> Self:
        """Build settings from .env, overridden by the environment, overridden by ``chosen`` where it is not None."""
        known = cls.declared().keys()
        values: dict[str, object] = {}
        for source in (_dot_env(), os.environ):
            values |= {name.lower(): text for name, text in source.items() if text and name.upper() in known}
        return cls.of(**values | {name: value for name, value in chosen.items() if value is not None})

    def updated(self, **values: object) -> Self:
        """Return a copy in which these values, named as in ``of``, replace others."""
        given = {name.upper(): value for name, value in values.items()}
        changes: dict[str, Any] = {}
        for name, group in self.groups().items():
            parsed = {
                attribute: each.parse(given[each.variable])
                for attribute, each in settings_of(group)
                if each.variable in given
            }
            if parsed:
                changes[name] = replace(getattr(self, name), **parsed)
        return replace(self, **changes, given=self.given | given.keys())

    @property
    def local_database(self) -> Path:
        """The SQLite file in the data folder."""
        return self.server.data_dir / "sessions" / "sessions.db"

    @property
    def database_path(self) -> Path:
        """The SQLite file to use unless SESSION_DB_URI names a database."""
        return self.database.path or self.local_database


def _dot_env() -> Mapping[str, str | None]:
    if not DOT_ENV.is_file():
        return {}
    try:
        return dotenv_values(DOT_ENV)
    except (OSError, UnicodeDecodeError):
        raise StartupFailure(f"{DOT_ENV} cannot be read; expected lines like NAME=value in UTF-8") from None
