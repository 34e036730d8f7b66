"""Checks SessionClasses before sessions use them, keeps their warm pools, and writes their status.

The check asks the API server to create a Deployment of the class without creating it (a dry run), so it hears whatever
validation, admission policy or webhook would refuse.  A refused class is checked again from time to time, because a
policy or a quota can change without the class.  What the rules of the installation refuse is not tried at all.

================  ==================  =============================================
fact              Ready               meaning
================  ==================  =============================================
accepted          True  Accepted      sessions of the class can get pods
refused           False <its reason>  they fail with the same reason
cannot be tried   Unknown NotChecked  an admission webhook supports no dry run
================  ==================  =============================================
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime

from session_manager.aio.retry import Backoff
from session_manager.domain.errors import InvalidInput
from session_manager.domain.values import Json
from session_manager.runtime.kubernetes import names
from session_manager.runtime.kubernetes.cluster import (
    CLASSES,
    DEPLOYMENTS,
    ApiConflict,
    ApiError,
    ApiNotFound,
    Cluster,
)
from session_manager.runtime.kubernetes.pods import PodView
from session_manager.runtime.kubernetes.resources import CLASS_INVALID, Resources, SessionSpec
from session_manager.runtime.kubernetes.session_class import ClassSpec
from session_manager.runtime.kubernetes.trouble import Trouble, trouble_of_refusal
from session_operator import manifests
from session_operator.conditions import condition
from session_operator.once import Once
from session_operator.warm import WarmPods
from session_operator.work_queue import NotYet, WorkQueue

log = logging.getLogger(__name__)

SAMPLE = "00000000-0000-4000-8000-000000000000"  # the session of a check
NO_DRY_RUN = "does not support dry run"
RECHECKS = Backoff(5.0, 60.0)
STATUS_PAUSE = 1.0  # seconds between two writes of one status, while a pool is filling

ACCEPTED = ("Accepted", "The API server accepts pods of this class.")
NOT_CHECKED = ("NotChecked", "An admission webhook does not support dry runs, so the first wake will show it.")


@dataclass(frozen=True, slots=True)
class Verdict:
    """``refusal``: None if the class was accepted, or if ``checked`` is False. ``due``: when to check again."""

    spec: ClassSpec
    refusal: Trouble | None = None
    checked: bool = True
    tries: int = 0
    due: float = 0.0


def class_status(verdict: Verdict, ready_pods: int, previous: Json, now: str) -> Json:
    """Return the status of a SessionClass. ``ready_pods``: warm pods that are ready."""
    spec, refusal = verdict.spec, verdict.refusal
    if refusal is not None:
        holds, because = "False", (refusal.reason, refusal.remedy)
    else:
        holds, because = ("True", ACCEPTED) if verdict.checked else ("Unknown", NOT_CHECKED)
    return {
        "observedGeneration": spec.generation,
        "conditions": [condition("Ready", holds, because, spec.generation, previous, now)],
        "warm": {"wanted": spec.warm, "ready": ready_pods},
    }


@dataclass(slots=True, eq=False)
class ClassKeeper:
    """``on_verdict`` are called with the name of a class, and why it is refused now (None: it no longer is)."""

    cluster: Cluster
    resources: Resources
    warm: WarmPods
    verdicts: dict[str, Verdict] = field(default_factory=dict)
    on_verdict: list[Callable[[ClassSpec, Trouble | None], None]] = field(default_factory=list)
    problems: Once = field(default_factory=lambda: Once(log))
    statuses: WorkQueue = field(init=False)
    written: dict[str, Json] = field(default_factory=dict)
    written_at: dict[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.statuses = WorkQueue(self._write, 1)
        self.warm.pods.listen(self._on_pod)

    @property
    def refused(self) -> int:
        """Return the number of classes that are refused."""
        return sum(verdict.refusal is not None for verdict in self.verdicts.values())

    def refusal_of(self, class_name: str) -> Trouble | None:
        found = self.verdicts.get(class_name)
        return None if found is None else found.refusal

    def _on_pod(self, pod: PodView, _: bool) -> None:
        if pod.warm:
            self.statuses.add(pod.warm)

    def lost_pool(self, name: str) -> None:
        """Another writer changed or deleted the pool: the next ``keep`` writes it again."""
        self.verdicts.pop(name, None)

    # -- check ---------------------------------------------------------------------------------------------------------

    async def keep(self, name: str) -> None:
        """Check a class that has changed or is due, and keep its pool. Raises NotYet while it is refused."""
        try:
            spec = self.resources.classes.spec(name)
        except InvalidInput:  # it is gone. It owned its pool, which is deleted with it.
            self.verdicts.pop(name, None)
            self.written.pop(name, None)
            self.problems.over(name)
            return
        now = asyncio.get_running_loop().time()
        before = self.verdicts.get(name)
        if before is None or before.spec != spec or (before.refusal is not None and before.due <= now):
            self._judge(await self._check(spec, before, now), before)
        self.statuses.add(name)
        verdict = self.verdicts[name]
        if verdict.refusal is not None and not spec.refusal:
            raise NotYet(max(verdict.due - now, 0.1))

    async def _check(self, spec: ClassSpec, before: Verdict | None, now: float) -> Verdict:
        if spec.refusal:  # by the installation, whose rules do not change while it runs
            await self.warm.keep_pool(spec)
            return Verdict(spec, Trouble(CLASS_INVALID, spec.refusal), due=float("inf"))
        checked = True
        try:
            checked = await self._accepted(spec)
            await self.warm.keep_pool(spec)
        except ApiConflict:
            raise  # by the pool; the queue tries again
        except ApiError as error:
            error.message = error.message.replace(names.child_name(SAMPLE), "session-…")
            tries = before.tries + 1 if before is not None and before.spec == spec else 1
            return Verdict(spec, trouble_of_refusal(error), True, tries, now + RECHECKS.pause(tries))
        return Verdict(spec, None, checked)

    async def _accepted(self, spec: ClassSpec) -> bool:
        """Return True, or False if that cannot be tried. Raises ApiError if the API server refuses the class."""
        sample = SessionSpec(SAMPLE, SAMPLE, spec)
        try:
            await self.cluster.try_create(DEPLOYMENTS, manifests.new_deployment(sample), names.SCALER)
        except ApiConflict:
            return True
        except ApiError as error:
            if NO_DRY_RUN in error.message:
                return False
            if trouble_of_refusal(error).reason != "QuotaExceeded":  # which says nothing about the class
                raise
        return True

    def _judge(self, verdict: Verdict, before: Verdict | None) -> None:
        name = verdict.spec.name
        self.verdicts[name] = verdict
        if verdict.refusal is None:
            self.problems.over(name)
        else:
            words = f"pods of the SessionClass {name} are refused: {verdict.refusal.remedy}"
            self.problems.warn(name, words, "class.refused")
        if verdict.refusal != (None if before is None else before.refusal):
            for listener in self.on_verdict:
                listener(verdict.spec, verdict.refusal)

    # -- status --------------------------------------------------------------------------------------------------------

    async def _write(self, name: str) -> None:
        verdict = self.verdicts.get(name)
        if verdict is None or not verdict.spec.uid:
            return
        loop = asyncio.get_running_loop()
        left = self.written_at.get(name, float("-inf")) + STATUS_PAUSE - loop.time()
        if left > 0:
            raise NotYet(left)
        with suppress(ApiNotFound, ApiConflict):  # it is gone or has changed, and its event will come
            previous = self.written.get(name)
            if previous is None:
                previous = (await self.cluster.get(CLASSES, name)).get("status", {})
            ready = sum(pod.ready and pod.alive for pod in self.warm.pods.of_pool(name))
            status = class_status(verdict, ready, previous, datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"))
            if status != previous:
                patch: Json = {"metadata": {"uid": verdict.spec.uid}, "status": status}
                await self.cluster.merge_patch(CLASSES, name, patch, names.OPERATOR, "status")
                self.written_at[name] = loop.time()
            self.written[name] = status
