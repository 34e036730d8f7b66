"""Why a pod could not start, and how it ended, in words for the person whose session it is."""

from __future__ import annotations

import os
import signal
from contextlib import suppress
from pathlib import Path

from session_manager.domain.errors import PodCannotStart
from session_manager.domain.session_class import SessionClass
from session_manager.runtime.process.link import Refusal


def no_command(session_class: SessionClass) -> PodCannotStart:
    remedy = f"the class {session_class.name} has no command; give it one in the file of SessionClasses"
    return PodCannotStart("NoCommand", remedy)


def not_runnable(refusal: Refusal, session_class: SessionClass) -> PodCannotStart:
    program = Path(session_class.command[0]).name
    reason = "CommandNotFound" if refusal.missing else "CommandNotRunnable"
    remedy = f"{program}: {refusal.error}; install it, or mend the command of the class {session_class.name}"
    return PodCannotStart(reason, remedy)


def machine_trouble(error: OSError) -> PodCannotStart:
    """No space, no files, no permission: not the agent's fault."""
    return PodCannotStart("MachineTrouble", f"{error.strerror}; the machine that runs the pods needs attention")


def crashed(session: str | None, status: int | None, words: str) -> PodCannotStart:
    """``session`` None, here and below: the pod was to wait for one. ``words``: what it printed last."""
    said = f"last output: {words}{_see_logs(session)}" if words else "it printed nothing"
    return PodCannotStart("CrashedAtStart", f"{how_it_ended(status)}; {said}")


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
    """``status`` as from waitpid."""
    if status is None:
        return "killed together with the process that held it"
    code = os.waitstatus_to_exitcode(status)
    if code >= 0:
        return f"exit code {code}"
    with suppress(ValueError):
        return f"killed by {signal.Signals(-code).name}"
    return f"killed by signal {-code}"
