"""What a scraper and a script read, and that the page tells of all of it."""

from __future__ import annotations

import re
from pathlib import Path

from session_manager.api.metrics import Metrics

PAGE = Path(__file__).parents[2] / "docs" / "metrics.md"


def test_the_page_lists_every_metric_with_its_labels():
    told = dict(re.findall(r"^\| `(session_manager_\w+)` \| \w+ \|([^|]*)\|", PAGE.read_text("utf-8"), re.M))
    metrics = Metrics()
    metrics.request("GET", 200, 0.1)
    metrics.sessions.labels("awake").set(1)
    found = {}
    for family in metrics.registry.collect():
        name = f"{family.name}_total" if family.type == "counter" else family.name
        labels = {label for sample in family.samples for label in sample.labels} - {"le"}
        found[name] = ", ".join(f"`{label}`" for label in sorted(labels))
    assert {name: labels.strip() for name, labels in told.items()} == found


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
