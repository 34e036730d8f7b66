"""Logs: JSON lines for machines, one-liners for a terminal. Only command lines set them up.

Every JSON line has ``timestamp`` (ISO 8601, UTC), ``severity``, ``event`` and ``message``; ``session``, ``duration``
(seconds), ``trace_id``, ``span_id`` and others where they apply. No log call contains a secret or the text of a
message.
"""

from __future__ import annotations

import logging
import socket
import sys
from datetime import UTC, datetime
from typing import Any, TextIO

from pythonjsonlogger.core import RESERVED_ATTRS
from pythonjsonlogger.json import JsonFormatter

from session_manager.settings import Settings
from session_manager.settings.kinds import printable
from session_manager.tracing.context import current

OURS = "session_manager"
# They warn of each request that is invalid or over a limit. Its caller gets an error; a caller must not be able to fill
# the log, and users' names do not belong there.
QUIET = dict.fromkeys(("slowapi", "uvicorn.error"), logging.ERROR)
# It logs, with a stack trace, errors that it also raises and that we log ourselves.
QUIET["gcsfs"] = logging.CRITICAL
# Fields that logging and uvicorn add to every record.
_STANDARD = frozenset({*RESERVED_ATTRS, "color_message", "taskName"})

_RESET, _DIM = "\x1b[0m", "\x1b[2m"
_COLOURS = {
    "DEBUG": "\x1b[2m",
    "INFO": "\x1b[32m",
    "WARNING": "\x1b[33m",
    "ERROR": "\x1b[31m",
    "CRITICAL": "\x1b[1;31m",
}


def setup_logging(settings: Settings, stream: TextIO | None = None) -> None:
    """Send all logs to ``stream``, stderr by default. Logs of libraries below WARNING are dropped."""
    chosen = settings.logs
    stream = stream or sys.stderr
    pretty = chosen.format == "pretty" or (chosen.format == "auto" and stream.isatty())
    handler = logging.StreamHandler(stream)
    handler.setFormatter(OneLiners() if pretty else JsonLines(chosen.instance or socket.gethostname()))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(max(logging.WARNING, logging.getLevelName(chosen.level)))
    logging.getLogger(OURS).setLevel(chosen.level)
    for name, level in QUIET.items():
        logging.getLogger(name).setLevel(level)
    logging.captureWarnings(True)


def event_of(record: logging.LogRecord) -> str:
    """Return the name of the event, or of the logger if a library logged without one."""
    return str(getattr(record, "event", None) or record.name)


class JsonLines(JsonFormatter):
    """One JSON object per line. ``instance`` names this process."""

    def __init__(self, instance: str) -> None:
        super().__init__(static_fields={"instance": instance}, reserved_attrs=list(_STANDARD))

    def add_fields(self, log_data: dict[str, Any], record: logging.LogRecord, message_dict: dict[str, Any]) -> None:
        moment = datetime.fromtimestamp(record.created, UTC)
        log_data["timestamp"] = moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")
        log_data["severity"] = record.levelname
        log_data["event"] = event_of(record)
        trace = current.get()
        if trace is not None:
            log_data["trace_id"], log_data["span_id"] = trace.trace_id, trace.span_id
        super().add_fields(log_data, record, message_dict)


class OneLiners(logging.Formatter):
    """``12:00:00 INFO  pod started  event=pod.started session=3f2b…``, in local time."""

    def format(self, record: logging.LogRecord) -> str:
        colour = _COLOURS.get(record.levelname, "")
        moment = datetime.fromtimestamp(record.created).astimezone()
        fields = {"event": event_of(record)} | {
            name: value for name, value in vars(record).items() if name not in _STANDARD and name != "event"
        }
        facts = " ".join(f"{name}={printable(value)}" for name, value in fields.items())
        level = f"{colour}{record.levelname:<7}{_RESET}"
        line = f"{_DIM}{moment:%H:%M:%S}{_RESET} {level} {printable(record.getMessage())}  {_DIM}{facts}{_RESET}"
        if record.exc_info:
            line += f"\n{self.formatException(record.exc_info)}"
        return line
