"""The table of runtimes."""

from __future__ import annotations

from pathlib import Path
from typing import Any, get_args

import pytest

from session_manager.domain.errors import StartupFailure
from session_manager.settings.sessions import Runtime
from session_manager.tracing.spans import Spans
from session_manager.wiring import hosts
from tests.servers.front import settings_for

NOTHING: Any = None


def test_every_runtime_of_the_settings_has_a_host():
    assert set(get_args(get_args(Runtime)[0])) == set(hosts.HOSTS)


def test_a_missing_package_is_named(tmp_path: Path, redis_url: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(hosts.HOSTS, "kubernetes", "no_such_package")
    settings = settings_for(tmp_path, redis_url, session_runtime="kubernetes")
    with pytest.raises(StartupFailure, match=r"no_such_package is not installed; .* needs the extra operator"):
        hosts.open_host(settings, NOTHING, NOTHING, Spans())
