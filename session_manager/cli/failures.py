"""What a failure means to a script: the exit codes, in one place."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

from session_manager.cli.show import plain
from session_manager.domain.errors import BackupError, SessionManagerError


class ExitCode(IntEnum):
    OK = 0
    FAILED = 1
    USAGE = 2
    NOT_FOUND = 3
    NOT_ALLOWED = 4
    UNREACHABLE = 5
    CONFLICT = 6
    TRY_LATER = 7
    INTERRUPTED = 130


_BY_STATUS = {
    400: ExitCode.USAGE,
    401: ExitCode.NOT_ALLOWED,
    403: ExitCode.NOT_ALLOWED,
    404: ExitCode.NOT_FOUND,
    409: ExitCode.CONFLICT,
    413: ExitCode.USAGE,
    429: ExitCode.TRY_LATER,
    503: ExitCode.TRY_LATER,
}


@dataclass(frozen=True, slots=True)
class Told:
    line: str
    exit_code: ExitCode


def explain(error: Exception) -> Told | None:
    """One line and an exit code for an error that is no bug; None for one that is."""
    told = _told(error)
    return told and Told(plain(told.line), told.exit_code)  # names in it may be those of others


def _told(error: Exception) -> Told | None:
    from session_manager.client import ClientError, InvalidRequest, Unreachable  # noqa: PLC0415  slow, and only where something failed

    if isinstance(error, Unreachable):
        return Told(f"{error.detail}; is it running? Start it with 'session-manager dev'", ExitCode.UNREACHABLE)
    if isinstance(error, InvalidRequest):
        return Told(error.detail, ExitCode.USAGE)
    if isinstance(error, ClientError):
        again = f"; try again in {error.retry_after:g} s" if error.retry_after else ""
        return Told(error.detail + again, _BY_STATUS.get(error.status or 0, ExitCode.FAILED))
    if isinstance(error, BackupError):
        return Told(f"{error.detail} ({error.reason})" if error.reason != error.detail else error.detail, _code(error))
    if isinstance(error, SessionManagerError):
        return Told(error.detail, _code(error))
    return None


def _code(error: SessionManagerError) -> ExitCode:
    return _BY_STATUS.get(error.http_status, ExitCode.FAILED)
