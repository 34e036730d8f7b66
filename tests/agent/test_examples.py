"""The examples do what their page says, as pods of the classes beside them."""

from __future__ import annotations

import json
import re
import uuid
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from session_manager.agent import echo
from session_manager.domain.errors import PodCannotStart, PodDied
from session_manager.podclient.gateway import PodGateway
from session_manager.podclient.protocol import TurnRequest
from session_manager.runtime.classes import ConfiguredClasses, load_classes
from session_manager.runtime.process import ProcessRuntime
from session_manager.settings import Settings
from tests.podclient.conftest import no_sessions

EXAMPLES = Path(__file__).parents[2] / "examples"
CLASSES = load_classes(Settings.from_environment(session_classes=EXAMPLES / "classes.yaml"))


class Conversation:
    """One session of a class."""

    def __init__(self, runtime: ProcessRuntime, client: PodGateway, name: str) -> None:
        self.session = str(uuid.uuid4())
        self.deltas: list[object] = []
        self._runtime = runtime
        self._client = client
        self._class = CLASSES.get(name)

    async def say(self, message: str, attempt: int = 1) -> dict[str, object]:
        pods = self._runtime.pods()
        address = pods.get(self.session) or await self._runtime.start_pod(self.session, self._class, lambda words: None)
        request = TurnRequest(self.session, "ada", str(uuid.uuid4()), attempt, message)
        reply = json.loads(await self._client.chat(address, self._class, request, self._hear))
        assert isinstance(reply, dict)
        return reply

    async def sleep(self) -> None:
        await self._runtime.stop_pod(self.session, self._runtime.pods()[self.session].uid, grace=5)

    async def _hear(self, data: str) -> None:
        self.deltas.append(json.loads(data))


@pytest.fixture
async def machine(tmp_path: Path) -> AsyncIterator[tuple[ProcessRuntime, PodGateway]]:
    runtime, client = ProcessRuntime(tmp_path, {}), PodGateway(no_sessions)
    await runtime.start()
    yield runtime, client
    await client.close()
    await runtime.close(grace=0)


@pytest.mark.parametrize("name", ["default", "echo"])
async def test_echo(machine: tuple[ProcessRuntime, PodGateway], name: str) -> None:
    assert await Conversation(*machine, name).say("Hello") == {"reply": "You said: Hello"}


async def test_counter_shows_what_survives_sleep(machine: tuple[ProcessRuntime, PodGateway]) -> None:
    conversation = Conversation(*machine, "counter")
    await conversation.say("")
    second = await conversation.say("")
    assert (second["in_home"], second["in_memory"]) == (2, 2)
    await conversation.sleep()
    third = await conversation.say("")
    assert (third["in_home"], third["in_memory"]) == (3, 1)
    assert third["reply"] == "message 3 of this session, 1 since this pod started"


async def test_slow_takes_as_long_as_the_message_says(machine: tuple[ProcessRuntime, PodGateway]) -> None:
    assert await Conversation(*machine, "slow").say("0.01") == {"reply": "That took 0.01 seconds"}


async def test_streaming_sends_word_by_word(machine: tuple[ProcessRuntime, PodGateway]) -> None:
    conversation = Conversation(*machine, "streaming")
    assert await conversation.say("a b") == {"reply": "You said: a b "}
    assert conversation.deltas == [{"text": "You "}, {"text": "said: "}, {"text": "a "}, {"text": "b "}]


async def test_crasher_dies_on_demand(machine: tuple[ProcessRuntime, PodGateway]) -> None:
    conversation = Conversation(*machine, "crasher")
    assert await conversation.say("Hello") == {"reply": "Alive, at attempt 1"}
    with pytest.raises(PodDied):
        await conversation.say("die once")


async def test_crasher_survives_the_second_try(machine: tuple[ProcessRuntime, PodGateway]) -> None:
    assert await Conversation(*machine, "crasher").say("die once", attempt=2) == {"reply": "Alive, at attempt 2"}


async def test_crasher_at_start(machine: tuple[ProcessRuntime, PodGateway]) -> None:
    with pytest.raises(PodCannotStart, match="exit code 1; last output: CRASH_AT_START is set"):
        await Conversation(*machine, "crasher-at-start").say("Hello")


def test_the_echo_of_the_examples_is_the_built_in_one() -> None:
    assert (EXAMPLES / "echo" / "agent.py").read_text() == Path(echo.__file__).read_text()


def test_every_example_has_a_class_and_a_line() -> None:
    agents = {path.parent.name for path in EXAMPLES.glob("*/agent.py")}
    assert agents == {path.name for path in EXAMPLES.iterdir() if path.is_dir()}
    page = (EXAMPLES / "README.md").read_text()
    assert set(re.findall(r"\]\((\w+)/agent\.py\)", page)) == agents
    assert isinstance(CLASSES, ConfiguredClasses)
    for name in agents:
        agent = EXAMPLES / name / "agent.py"
        # One for ADK is named by its folder, and told to the server that runs it.
        assert CLASSES.get(name).command[-1] == str(agent.parent if name == "adk" else agent)
