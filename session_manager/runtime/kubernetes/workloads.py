"""The port to what makes pods and takes them away: Deployments and warm pools, or their replicas alone.

The operator has both. A front door that stands in for it may only scale what is there.
"""

from __future__ import annotations

from typing import Protocol

from session_manager.runtime.kubernetes.pods import PodView
from session_manager.runtime.kubernetes.session_class import ClassSpec
from session_manager.runtime.kubernetes.trouble import Trouble

SUSPENDED, CLASS_MISSING = "Suspended", "ClassMissing"
WITHOUT_TRYING = frozenset({SUSPENDED, CLASS_MISSING})  # reasons for which no pod is even asked for


class Workloads(Protocol):
    """Calls for one session are never concurrent, but for ``end``. Unavailable when it cannot be done now."""

    async def wakeable(self, session: str) -> ClassSpec | None:
        """The class to start; None: there is no such Session yet. PodCannotStart when it must not or cannot run."""
        ...

    async def wake(self, session: str) -> None:
        """One pod for the session is on its way, or there."""
        ...

    async def sleep(self, session: str) -> bool:
        """No pod of the session's own is wanted; False when somebody else has woken it meanwhile."""
        ...

    async def end(self, pod: PodView) -> None:
        """Delete exactly this pod."""
        ...

    async def refusal(self, session: str) -> Trouble | None:
        """Why the cluster makes no pod at all."""
        ...

    async def forget(self, session: str, *, deleted: bool) -> None:
        """The session expired or was deleted: what becomes of its volume is for its class to say."""
        ...
