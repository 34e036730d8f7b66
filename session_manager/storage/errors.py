"""Translating the errors of storage services, which differ between the libraries behind fsspec."""

from __future__ import annotations

import asyncio
import errno

from session_manager.domain.errors import (
    SessionManagerError,
    StorageDenied,
    StorageError,
    StorageMissing,
    StorageUnavailable,
)

_DENIED = (401, 403)
NO_ROOM = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


def translate(error: Exception, place: str) -> Exception:
    """Return a StorageError for a failure of ``place``. A fault of the program is returned as it is."""
    if isinstance(error, SessionManagerError):
        return error
    shown = " ".join(str(error).split())[:500] or type(error).__name__
    reason = f"{place}: {shown}"
    if _is_denied(error):
        return StorageDenied(reason=reason)
    if isinstance(error, FileNotFoundError) or _status(error) == 404:
        return StorageMissing(reason=reason)
    if isinstance(error, OSError) and error.errno in NO_ROOM:
        return StorageError("There is no room left for the backup", reason=reason)
    if _is_away(error):
        return StorageUnavailable(reason=reason)
    if isinstance(error, (OSError, ValueError)) or _status(error) is not None:
        return StorageError(reason=reason)
    return error


def _status(error: Exception) -> int | None:
    """Return the HTTP status, or None if the library does not report one."""
    code = getattr(error, "code", None) or getattr(error, "status", None)
    return int(code) if isinstance(code, (int, str)) and str(code).isdigit() else None


def _is_denied(error: Exception) -> bool:
    # gcsfs reports a 403 only in the text.
    return (
        isinstance(error, PermissionError)
        or _status(error) in _DENIED
        or str(error).startswith("Forbidden")
        or _comes_from(error, "google.auth")
        or type(error).__name__ == "NoCredentialsError"
    )


def _is_away(error: Exception) -> bool:
    status = _status(error)
    return (
        isinstance(error, (asyncio.TimeoutError, TimeoutError, ConnectionError))
        or (status is not None and (status >= 500 or status in (408, 429)))
        or any(_comes_from(error, library) for library in ("aiohttp", "requests", "urllib3", "botocore"))
    )


def _comes_from(error: Exception, library: str) -> bool:
    return any(cls.__module__.startswith(library) for cls in type(error).__mro__)
