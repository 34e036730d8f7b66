"""The ports that the classes of this package have in common."""

from __future__ import annotations

from dataclasses import dataclass

from session_manager.activity.protocol import TurnActivity
from session_manager.domain.mode import Modes
from session_manager.domain.session_class import SessionClasses
from session_manager.store.protocol import Store


@dataclass(frozen=True, slots=True)
class Kit:
    """The ports of a front door: durable facts, hot facts, classes and modes of sessions."""

    store: Store
    activity: TurnActivity
    classes: SessionClasses
    modes: Modes
