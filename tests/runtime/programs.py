"""Programs to be pods, as SessionClasses."""

from __future__ import annotations

import sys
import textwrap
from typing import Any

import pytest

from session_manager.domain.session_class import SessionClass

# What only Linux's /proc, prctl and subreapers make possible.
linux_only = pytest.mark.skipif(sys.platform != "linux", reason="needs Linux")

SERVE = "from session_manager.agent import serve; serve(lambda message, context: message)"


def python(code: str, **fields: Any) -> SessionClass:
    return SessionClass("test", (sys.executable, "-P", "-c", textwrap.dedent(code)), **fields)


def serving(before: str = "", **fields: Any) -> SessionClass:
    """A pod that answers, after it ran ``before``."""
    return python(f"{textwrap.dedent(before)}\n{SERVE}", **fields)


# Starts a child that writes its pid to HOME and ignores SIGTERM.
_CHILD = """
import os, pathlib, subprocess, sys, time
code = '''
import os, pathlib, signal, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
pathlib.Path("child.new").write_text(str(os.getpid()))
pathlib.Path("child.new").rename("child")
time.sleep(600)
'''
{start}
while not pathlib.Path("child").exists():
    time.sleep(0.005)
"""
CHILD = {
    "in its group": _CHILD.format(start="subprocess.Popen([sys.executable, '-c', code])"),
    "in a session": _CHILD.format(start="subprocess.Popen([sys.executable, '-c', code], start_new_session=True)"),
    # Its parent is gone, as with a program that makes itself a daemon.
    "escaped": _CHILD.format(
        start="""
if os.fork() == 0:
    subprocess.Popen([sys.executable, '-c', code], start_new_session=True)
    os._exit(0)
os.wait()"""
    ),
}
if sys.platform != "linux":
    CHILD = {"in its group": CHILD["in its group"]}
