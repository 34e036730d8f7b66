from __future__ import annotations

import uuid
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from session_manager.runtime.process import ProcessRuntime


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return tmp_path / "data"


@pytest.fixture
async def runtime(data: Path) -> AsyncIterator[ProcessRuntime]:
    runtime = ProcessRuntime(data, {"ENVIRONMENT": "test", "OPENAI_API_KEY": "sk-0123456789"})
    await runtime.start()
    yield runtime
    await runtime.close(grace=0)


@pytest.fixture
def session() -> str:
    return str(uuid.uuid4())
