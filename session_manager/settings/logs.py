"""Logs: how much, and in which form."""

from __future__ import annotations

from dataclasses import dataclass

from session_manager.settings.declared import setting
from session_manager.settings.kinds import TEXT, choice


@dataclass(frozen=True, slots=True)
class LogSettings:
    level: str = setting(
        "LOG_LEVEL",
        choice("level", "DEBUG", "INFO", "WARNING", "ERROR"),
        "INFO",
        "Least severity that is logged: DEBUG, INFO, WARNING or ERROR.",
    )
    format: str = setting(
        "LOG_FORMAT", choice("format", "json", "pretty", "auto"), "auto", "json, pretty, or auto: pretty on a terminal."
    )
    instance: str = setting("INSTANCE", TEXT, "", "Name of this replica in logs; by default the host name.")
