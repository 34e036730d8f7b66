"""From the environment to settings and a socket, with one clear line for each thing that a person got wrong."""

from __future__ import annotations

import errno
import ipaddress
import os
import socket
from pathlib import Path
from typing import Any

from pydantic import ValidationError
from pydantic_settings import SettingsError

from session_manager.domain.errors import StartupFailure
from session_manager.settings import DEFAULT_DATABASE, Settings

BACKLOG = 2048


def load_settings(**given: Any) -> Settings:
    """Settings from the environment and .env; of ``given`` what is not None wins. StartupFailure names the variable."""
    chosen = {name: value for name, value in given.items() if value is not None}
    try:
        settings = Settings(**chosen)
    except ValidationError as error:
        raise StartupFailure(_first(error)) from None
    except SettingsError as error:
        raise StartupFailure(str(error)) from None
    if settings.session_db_uri is None and settings.cloud_run_session_db_path is None:
        path = settings.data_dir / Path(DEFAULT_DATABASE).relative_to("data")
        settings = settings.model_copy(update={"cloud_run_session_db_path": path})
    return settings


def _first(error: ValidationError) -> str:
    """Without the value, which may be a secret."""
    first = error.errors(include_input=False, include_url=False, include_context=False)[0]
    name = str(first["loc"][0]).upper() if first["loc"] else "the settings"
    return f"{name}: {first['msg'].removeprefix('Value error, ')}"


def refuse_open_door(settings: Settings) -> None:
    """StartupFailure where anybody could call and no key is asked for."""
    if not settings.session_api_keys and not _is_loopback(settings.host):
        raise StartupFailure(
            f"HOST={settings.host} can be reached from elsewhere, and nobody is asked for a key: "
            "set SESSION_API_KEYS=name:key, or listen on 127.0.0.1"
        )


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def listen(settings: Settings) -> socket.socket:
    """The listening socket, opened before anything is started. Port 0 takes a free one."""
    host, port = settings.host, settings.listen_port
    try:
        family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    except OSError:
        raise StartupFailure(f"HOST={host} is no address of this machine") from None
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        # What is accepted inherits it. asyncio alone leaves it off: the second write of an answer waits 40 ms.
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        listener.bind(address)
        listener.listen(BACKLOG)
    except OSError as error:
        listener.close()
        raise StartupFailure(_why_not(error, host, port)) from None
    return listener


def with_own_address(settings: Settings, listener: socket.socket) -> Settings:
    """Pods on this machine are told where it listens, unless a setting tells them otherwise."""
    if settings.session_manager_url is not None or settings.session_runtime != "process":
        return settings
    host, port = listener.getsockname()[:2]
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104  not to bind to, but bound to
    url = f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
    return settings.model_copy(update={"session_manager_url": url})


def _why_not(error: OSError, host: str, port: int) -> str:
    if error.errno == errno.EADDRINUSE:
        return f"Port {port} on {host} is taken; choose another with PORT=…"
    if error.errno == errno.EACCES:
        return f"Port {port} is not for ordinary users; choose one above 1023 with PORT=…"
    return f"HOST={host} is no address of this machine"


def make_folder(path: Path) -> None:
    """A folder for this user only. StartupFailure when it cannot be written to."""
    try:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        reason = "it is no folder" if isinstance(error, FileExistsError) else error.strerror
        raise StartupFailure(
            f"Cannot write to the data folder {path}: {reason}; choose another with DATA_DIR=…"
        ) from None
    if not os.access(path, os.W_OK | os.X_OK):
        raise StartupFailure(f"Cannot write to the data folder {path}; choose another with DATA_DIR=…")
