"""What the cluster says of sessions, whatever Redis knows of them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol

from session_manager.domain.session_class import SessionClass


class Declared(Protocol):
    def always_on(self) -> Iterable[tuple[str, SessionClass]]:
        """The sessions of that mode whose class is there."""
        ...

    def class_name(self, session: str) -> str:
        """Empty where the session is not known."""
        ...


class NothingDeclared:
    """Where there is no cluster."""

    def always_on(self) -> Iterable[tuple[str, SessionClass]]:
        return ()

    def class_name(self, session: str) -> str:
        return ""
