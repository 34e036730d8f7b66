"""docs/architecture.md lists every file that one chat message crosses."""

from __future__ import annotations

import asyncio
import re
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from types import FrameType

import pytest

from tests.servers.front import front_door, settings_for

ROOT = Path(__file__).parents[2]
PRODUCT = ROOT / "session_manager"
CLASSES = ROOT / "tests" / "servers" / "agents" / "classes.yaml"
SECTION = re.compile(r"^## The walk of one message\n(.*?)^## ", re.M | re.S)
FILE = re.compile(r"`([a-z_]+/[a-z_/]+\.py)`")
AT_MOST = 20
# Values and tools that every package uses.
LEAVES = ("domain/", "aio/")
UVICORN = ("serving/connection.py",)  # the front door of this test has uvicorn's own protocol
QUIET = {"repair_interval": 60.0, "heartbeat": 60.0, "lease": 60.0, "rate_limit_chat": "100/minute"}


class Recorder:
    """Records the source files whose functions are called, in every thread."""

    def __init__(self) -> None:
        self.sources: set[str] = set()

    def __call__(self, frame: FrameType, event: str, argument: object) -> None:
        if event == "call":
            self.sources.add(frame.f_code.co_filename)

    @property
    def files(self) -> set[str]:
        """The files of the product among them."""
        paths = [Path(source) for source in self.sources.copy()]
        return {path.relative_to(PRODUCT).as_posix() for path in paths if path.is_relative_to(PRODUCT)}


@pytest.fixture
def recorder() -> Iterator[Recorder]:
    """Profiles this thread, and each thread that starts from now on."""
    recorder = Recorder()
    threading.setprofile(recorder)
    sys.setprofile(recorder)
    yield recorder
    sys.setprofile(None)
    threading.setprofile(None)


async def test_the_page_lists_the_files_that_a_message_crosses(
    tmp_path: Path, redis_url: str, recorder: Recorder
) -> None:
    async with front_door(settings_for(tmp_path, redis_url, session_classes=CLASSES, **QUIET)) as front:
        session = await front.create()
        await front.chat(session, "hello")
        seen = []
        for _ in range(4):  # loops that run now and then are not in all of them
            await asyncio.sleep(0.3)
            recorder.sources.clear()
            assert (await front.chat(session, "hello", wait=None))[0] == 200
            seen.append(recorder.files)
    [walk] = SECTION.findall((ROOT / "docs" / "architecture.md").read_text("utf-8"))
    steps, _, helpers = walk.partition("\nHelpers")
    listed, helping = FILE.findall(steps), FILE.findall(helpers)
    assert len(listed) == len(set(listed)) <= AT_MOST
    crossed = {file for file in set.intersection(*seen) if not file.startswith(LEAVES)}
    assert {*crossed, *UVICORN} == {*listed, *helping}
