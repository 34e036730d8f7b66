"""Which requests are ADK's, and which of them a turn's token opens."""

from __future__ import annotations

import re

PREFIX = "/adk"
# Beside what lies under /apps. Everything else at the root is ours.
AT_ROOT = frozenset({"/list-apps", "/run", "/run_sse"})
OPEN = frozenset({"/adk/health", "/adk/docs", "/adk/openapi.json"})

_SESSION = r"(?:/adk)?/apps/[^/]+/users/[^/]+/sessions/[^/]+"
_WITH_TOKEN = {"GET": re.compile(_SESSION), "POST": re.compile(_SESSION + "/events")}


def is_adk(path: str) -> bool:
    return path.startswith(("/adk/", "/apps/")) or path.rstrip("/") in AT_ROOT or path == PREFIX


def takes_token(method: str, path: str) -> bool:
    """Reading one session and appending to it: what a pod may do with the token of its turn."""
    pattern = _WITH_TOKEN.get(method)
    return pattern is not None and pattern.fullmatch(path) is not None
