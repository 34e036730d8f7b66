"""The server does what docs/adk.md says."""

from __future__ import annotations

import asyncio
import json
import re
import shutil
from pathlib import Path

import pytest

PAGE = (Path(__file__).parents[3] / "docs" / "adk.md").read_text("utf-8")


async def test_the_page_names_every_route(front):
    _, document = await front.call("GET", "/adk/openapi.json")
    served = {f"{method.upper()} {path}" for path, methods in document["paths"].items() for method in methods}
    assert set(re.findall(r"^\| `([A-Z]+ /\S+)` \|", PAGE, re.M)) == served
    assert document["servers"] == [{"url": "/adk"}]
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            assert operation.get("description") or operation.get("summary"), (method, path)
    async with front.client.get(front.url + "/adk/docs") as response:
        assert response.status == 200
        assert 'data-document="openapi.json"' in await response.text()


@pytest.mark.skipif(shutil.which("curl") is None, reason="needs curl")
async def test_the_example(front):
    [script] = re.findall(r"^```sh\n(ADK=.*?)^```", PAGE, re.M | re.S)
    script = script.replace("http://127.0.0.1:8080", front.url)
    command = f"curl() {{ command curl -w '\\n' \"$@\"; }}\n{script}"
    process = await asyncio.create_subprocess_exec("bash", "-ec", command, stdout=asyncio.subprocess.PIPE)
    out, _ = await process.communicate()
    assert process.returncode == 0
    made, changed, events, last, rows, deleted = map(json.loads, out.decode().splitlines())
    assert made["state"] == {"city": "Rome", "user:name": "Ada"}
    assert changed["state"]["city"] == "Paris"
    assert "Hello" in events[0]["content"]["parts"][0]["text"]
    assert [event["id"] for event in last["events"]] == [events[0]["id"]]
    assert ([row["id"] for row in rows], deleted) == (["trip"], None)
