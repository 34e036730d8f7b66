"""Asking a pod whether it answers, for as long as it can."""

from __future__ import annotations

import asyncio

from session_manager.aio.tasks import cancel, wait_for_either
from session_manager.domain.errors import PodCannotStart
from session_manager.domain.session_class import Probe
from session_manager.runtime.kubernetes.pods import Pods, PodView
from session_manager.runtime.probe import until_ready

LOOK = 1.0  # seconds between looks at what no pod tells


async def probed(pods: Pods, pod: PodView, probe: Probe) -> bool:
    """Whether it answered; False when the pod went away before. PodCannotStart when its container ended."""
    probing = asyncio.create_task(until_ready(pod.ip, pod.port, probe))
    try:
        while not probing.done():
            await wait_for_either(probing, pods.change(pod.session, LOOK))
            now = pods.get(pod.uid)
            if now is None or now.leaving:
                return False
            if now.trouble is not None and now.trouble.final:
                raise PodCannotStart(now.trouble.reason, now.trouble.remedy)
        return True
    finally:
        await cancel(probing)
