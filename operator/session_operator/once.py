"""Logs a problem once, and again when it changes, although the work that has it is retried again and again."""

from __future__ import annotations

import logging
from dataclasses import dataclass, field


@dataclass(slots=True, eq=False)
class Once:
    """``said``: the last words about each key."""

    log: logging.Logger
    said: dict[str, str] = field(default_factory=dict)

    def warn(self, key: str, words: str, event: str, error: BaseException | None = None) -> None:
        """Log the words unless they were the last about this key. ``error``: with its traceback."""
        if self.said.get(key) != words:
            self.said[key] = words
            self.log.warning(words, exc_info=error, extra={"event": event, "key": key})

    def over(self, key: str) -> None:
        """The problem is solved: should it come back, log it again."""
        self.said.pop(key, None)
