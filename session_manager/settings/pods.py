"""Pods: what runs them, and how persistently."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from session_manager.domain.errors import StartupFailure
from session_manager.settings.declared import setting
from session_manager.settings.kinds import PATH, URL, choice, seconds, whole_number

RUNTIMES = ("process", "kubernetes")


@dataclass(frozen=True, slots=True)
class PodSettings:
    runtime: str = setting("SESSION_RUNTIME", choice("runtime", *RUNTIMES), "process", "What runs pods.")
    classes: Path | None = setting(
        "SESSION_CLASSES", PATH, None, "YAML file of SessionClasses for the process runtime."
    )
    front_door_url: str | None = setting(
        "SESSION_MANAGER_URL",
        URL,
        None,
        "Address at which pods reach this service; for processes by default where it listens.",
    )
    max_wakes: int = setting("MAX_WAKES", whole_number(100_000), 32, "Pods that start at once.")
    retry_first: float = setting(
        "RETRY_FIRST", seconds(), 5.0, "Seconds until a failed start is tried again; doubles each time."
    )
    retry_last: float = setting(
        "RETRY_LAST", seconds(), 300.0, "Longest pause in seconds between tries of a failed start."
    )
    heartbeat: float = setting(
        "HEARTBEAT",
        seconds(),
        5.0,
        "Seconds for which pod addresses are trusted without a heartbeat, and after which a silent machine's pods "
        "may be taken over. Sent five times in that time.",
    )

    def __post_init__(self) -> None:
        if self.retry_first > self.retry_last:
            raise StartupFailure(
                f'RETRY_FIRST: invalid number of seconds "{self.retry_first:g}"; '
                f"expected RETRY_LAST ({self.retry_last:g}) or less"
            )
