"""Pods as processes of one machine: ``ProcessRuntime``."""

from session_manager.runtime.process.runtime import ProcessRuntime

__all__ = ["ProcessRuntime"]
