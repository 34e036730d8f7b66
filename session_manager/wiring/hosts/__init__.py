"""Where pods run, as a front door sees it: one Host for each runtime.

A further runtime needs a module with ``open_host`` and a line in ``HOSTS``.
"""

from __future__ import annotations

from importlib import import_module
from typing import cast

from session_manager.activity.link import Link
from session_manager.domain.errors import StartupFailure
from session_manager.settings import Settings
from session_manager.store.protocol import Store
from session_manager.wiring.hosts.host import Host

HOSTS = {
    "process": "session_manager.wiring.hosts.process",
    "kubernetes": "session_manager.wiring.hosts.kubernetes",
}


def open_host(settings: Settings, link: Link, store: Store) -> Host:
    """Open the host that SESSION_RUNTIME names. Only its own dependencies are imported.

    Raises StartupFailure if one of them is not installed, or if the settings or the file of classes are invalid.
    """
    try:
        module = import_module(HOSTS[settings.pods.runtime])
    except ModuleNotFoundError as error:
        raise StartupFailure(f"{error.name} is missing: pip install 'session-manager[operator]'") from None
    return cast(Host, module.open_host(settings, link, store))
