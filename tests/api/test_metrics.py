"""The metrics that scrapers and scripts read, and their page in the documentation."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from prometheus_client import CollectorRegistry

from session_manager.api.metrics import Metrics
from session_manager.backup.catalog import Manifest, new_name
from session_manager.backup.service import Stats
from session_manager.domain.histogram import Histogram
from session_manager.turns.kit import TurnTimes
from session_operator.health import Metrics as OperatorMetrics
from tests.servers.front import FrontDoor
from tests.waiting import until

PAGE = Path(__file__).parents[2] / "docs" / "metrics.md"


def told(prefix: str) -> dict[str, str]:
    """Return the metrics of the page, with their labels."""
    rows = re.findall(rf"^\| `({prefix}_\w+)` \| \w+ \|([^|]*)\|", PAGE.read_text("utf-8"), re.M)
    return {name: labels.strip() for name, labels in rows}


def made(registry: CollectorRegistry) -> dict[str, str]:
    found = {}
    for family in registry.collect():
        name = f"{family.name}_total" if family.type == "counter" else family.name
        labels = {label for sample in family.samples for label in sample.labels} - {"le"}
        found[name] = ", ".join(f"`{label}`" for label in sorted(labels))
    return found


def manifest() -> Manifest:
    facts: dict[str, Any] = {"engine": "sqlite", "schema_version": 1, "rows": {}, "size": 1, "stored_size": 1}
    hashes = {"sha256": "0" * 64, "stored_sha256": "0" * 64}
    now = datetime.now(UTC)
    return Manifest(name=new_name(now), taken_at=now, program="0", duration=1.0, **facts, **hashes)


class Ships:
    writes = True
    lag = 1.5


def test_the_page_lists_every_metric_of_a_front_door_with_its_labels():
    metrics = Metrics(TurnTimes(), Histogram(), Stats(newest=manifest()), Ships(), {"redis": None})
    metrics.request("GET", 200, 0.1)
    metrics.sessions.labels("awake").set(1)
    metrics.exceeded.labels("stored").inc()
    assert told("session_manager") == made(metrics.registry)


def test_the_page_lists_every_metric_of_the_operator_with_its_labels():
    metrics = OperatorMetrics()
    metrics.started("answered", 0.1)
    metrics.reconciled("sessions")("done", 0.1)
    metrics.event("Woken")
    assert told("session_operator") == made(metrics.registry)


async def scraped(front: FrontDoor) -> dict[str, float]:
    """Return every sample by name and labels, as the text spells them."""
    async with front.client.get(front.url + "/metrics", headers={"Accept": "text/plain"}) as response:
        lines = (await response.text()).splitlines()
    return {name: float(value) for name, value in (line.rsplit(" ", 1) for line in lines if not line.startswith("#"))}


async def test_every_histogram_counts_what_its_name_says(front):
    session = await front.create()
    for message in ("sleep 0.3", "hello", "die"):
        await front.chat(session, message)

    async def turns_given_back() -> dict[str, float] | None:
        samples = await scraped(front)
        return samples if samples["session_manager_lease_hold_seconds_count"] >= 5 else None

    samples = {name.removeprefix("session_manager_"): value for name, value in (await until(turns_given_back)).items()}
    assert samples['turn_seconds_count{result="processed"}'] == 2
    assert samples['turn_seconds_count{result="died"}'] == 3
    assert samples['turn_seconds_count{result="failed"}'] == 0
    assert samples['turn_seconds_sum{result="processed"}'] >= 0.3
    assert samples['turn_seconds_bucket{le="+Inf",result="processed"}'] == 2
    assert samples["queue_wait_seconds_count"] == 3
    assert samples["wake_seconds_count"] >= 3
    assert samples["queue_wait_seconds_sum"] > 0
    assert samples["lease_wait_seconds_count"] >= 5
    assert samples["lease_hold_seconds_sum"] >= samples['turn_seconds_sum{result="processed"}']
    assert samples["request_seconds_sum"] >= 0.3


async def test_json_for_people_and_text_for_scrapers(front):
    one, _ = await front.create(), await front.create()
    await front.chat(one, "hello")
    status, body = await front.call("GET", "/metrics")
    assert (status, body["total_sessions"], body["active_sessions"], body["sleeping_sessions"]) == (200, 2, 1, 1)
    assert body["timestamp"].endswith("Z")
    accept = {"Accept": "application/openmetrics-text;version=1.0.0,text/plain;version=0.0.4;q=0.5"}
    async with front.client.get(front.url + "/metrics", headers=accept) as response:
        text = await response.text()
    assert 'session_manager_sessions{status="awake"} 1' in text
    assert 'session_manager_sessions{status="created"} 1' in text
    assert "session_manager_unfinished_messages 0" in text
    assert 'session_manager_requests_total{method="POST",status="201"} 2' in text
