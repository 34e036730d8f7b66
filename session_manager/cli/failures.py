"""Errors as one line and an exit code."""

from __future__ import annotations

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
    405: ExitCode.USAGE,
    409: ExitCode.CONFLICT,
    413: ExitCode.USAGE,
    415: ExitCode.USAGE,
    429: ExitCode.TRY_LATER,
    503: ExitCode.TRY_LATER,
    504: ExitCode.TRY_LATER,
}
QUOTA_EXCEEDED = "urn:session-manager:quota-exceeded"  # 403, 413 or 429, and always a limit


class Failure:
    """``line`` may quote names from elsewhere, so it is cleaned."""

    def __init__(self, line: str, exit_code: ExitCode) -> None:
        self.line = " ".join(plain(line).split())
        self.exit_code = exit_code


def explain(error: Exception) -> Failure | None:
    """Return one line and an exit code, or None if the error is a bug."""
    from session_manager.client import ClientError, InvalidRequest, Unreachable  # noqa: PLC0415  slow to import

    if isinstance(error, Unreachable):
        return Failure(f"{error.detail}; is it running? Start it with 'session-manager dev'", ExitCode.UNREACHABLE)
    if isinstance(error, InvalidRequest):
        return Failure(error.detail, ExitCode.USAGE)
    if isinstance(error, ClientError):
        again = f"; try again in {error.retry_after:g} s" if error.retry_after else ""
        by_status = _BY_STATUS.get(error.status or 0, ExitCode.FAILED)
        return Failure(error.detail + again, ExitCode.TRY_LATER if error.type == QUOTA_EXCEEDED else by_status)
    if isinstance(error, SessionManagerError):
        reason = f" ({error.reason})" if isinstance(error, BackupError) and error.reason != error.detail else ""
        return Failure(error.detail + reason, _BY_STATUS.get(error.http_status, ExitCode.FAILED))
    return None
