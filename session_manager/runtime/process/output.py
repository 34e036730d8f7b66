"""What pods printed: read from the files that the keeper writes, by any process."""

from __future__ import annotations

import re
from collections.abc import Iterable
from contextlib import suppress

from session_manager.runtime.process.folders import Paths

MAX_LINE = 200
_FOLDERS = re.compile(r"/(?:[^\s/'\":]+/)+")
_CONTROL = re.compile(r"\x1b\[[0-9;]*[A-Za-z]|[\x00-\x1f\x7f]")


def last_lines(paths: Paths, count: int) -> list[str]:
    """The last lines that the session's pods printed, oldest first; bytes that are no UTF-8 are replaced."""
    text = b""
    for file in (paths.older_log, paths.log):
        with suppress(FileNotFoundError):
            text += file.read_bytes()
    lines = text.decode("utf-8", "replace").replace("\r\n", "\n").removesuffix("\n").split("\n")
    return lines[-count:] if text and count > 0 else []


def last_words(paths: Paths, secrets: Iterable[str]) -> str:
    """The last line that says something, fit for the session's owner: no secrets, no folders of this machine."""
    lines = (_CONTROL.sub("", line).strip() for line in reversed(last_lines(paths, 20)))
    line = next(filter(None, lines), "")
    for secret in secrets:
        if len(secret) >= 8:
            line = line.replace(secret, "***")
    return _FOLDERS.sub("", line)[:MAX_LINE]
