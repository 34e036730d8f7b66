"""The reasons why a pod could not start and how it ended, as text for the owner of the session."""

from __future__ import annotations

import os
import re
import signal
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from session_manager.domain.errors import PodCannotStart
from session_manager.domain.session_class import SessionClass
from session_manager.runtime.process.folders import Paths
from session_manager.runtime.process.link import Refusal

MAX_LINE = 200
_FOLDERS = re.compile(r"/(?:[^\s/'\":]+/)+")
_CONTROL = re.compile(r"\x1b\[[0-9;]*[A-Za-z]|[\x00-\x1f\x7f]")


def no_command(session_class: SessionClass) -> PodCannotStart:
    remedy = f"class {session_class.name} has no command; add one to the file of SessionClasses"
    return PodCannotStart("NoCommand", remedy)


def not_runnable(refusal: Refusal, session_class: SessionClass) -> PodCannotStart:
    program = Path(session_class.command[0]).name
    reason = "CommandNotFound" if refusal.missing else "CommandNotRunnable"
    remedy = f"{program}: {refusal.error}; install it, or fix the command of class {session_class.name}"
    return PodCannotStart(reason, remedy)


def machine_trouble(reason: str | None) -> PodCannotStart:
    """Not the agent's fault: no space, no files, no permission."""
    return PodCannotStart("MachineTrouble", f"{reason}; the machine that runs the pods needs attention")


def crashed(session: str | None, status: int | None, last_output: str) -> PodCannotStart:
    """``session`` is None, here and below, for a pod that does not have one yet."""
    output = f"last output: {last_output}{_see_logs(session)}" if last_output else "it printed nothing"
    return PodCannotStart("CrashedAtStart", f"{how_it_ended(status)}; {output}")


def never_ready(session: str | None, session_class: SessionClass, last_try: str) -> PodCannotStart:
    probe = session_class.probe
    return PodCannotStart(
        "NeverReady",
        f"GET {probe.path} was not answered with 2xx within {probe.startup_timeout:g} s: {last_try}; listen on the "
        f"port in PORT, or raise probe.startupTimeoutSeconds{_see_logs(session)}",
    )


def _see_logs(session: str | None) -> str:
    return "" if session is None else f"; see session-manager logs {session}"


def how_it_ended(status: int | None) -> str:
    """``status`` is as from waitpid."""
    if status is None:
        return "killed together with the process that held it"
    code = os.waitstatus_to_exitcode(status)
    if code >= 0:
        return f"exit code {code}"
    with suppress(ValueError):
        return f"killed by {signal.Signals(-code).name}"
    return f"killed by signal {-code}"


def last_output(paths: Paths, secrets: Iterable[str]) -> str:
    """Return the last line with text that the pod printed, without secrets and without folders of this machine."""
    lines = (_CONTROL.sub("", line).strip() for line in reversed(paths.last_lines(20)))
    line = next(filter(None, lines), "")
    for secret in secrets:
        if len(secret) >= 8:
            line = line.replace(secret, "***")
    return _FOLDERS.sub("", line)[:MAX_LINE]
