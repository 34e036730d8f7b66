from __future__ import annotations

import uuid
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from session_manager.aio.retry import Backoff
from session_manager.runtime.process import ProcessRuntime


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return tmp_path / "data"


@pytest.fixture
async def runtime(data: Path) -> AsyncIterator[ProcessRuntime]:
    """Warm pods that cannot start are tried again soon."""
    agent_env = {"ENVIRONMENT": "test", "OPENAI_API_KEY": "sk-0123456789"}
    runtime = ProcessRuntime(data, agent_env, retry=Backoff(0.02, 0.1))
    await runtime.start()
    yield runtime
    await runtime.close(grace=0)


@pytest.fixture
async def slow_to_retry(data: Path) -> AsyncIterator[ProcessRuntime]:
    """Warm pods that cannot start are not tried again."""
    runtime = ProcessRuntime(data, {}, retry=Backoff(1e6, 1e6))
    await runtime.start()
    yield runtime
    await runtime.close(grace=0)


@pytest.fixture
def session() -> str:
    return str(uuid.uuid4())
