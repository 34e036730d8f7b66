"""The output of pods is kept up to a limit, and any process with the folder can read it."""

from __future__ import annotations

from pathlib import Path

import pytest

from session_manager.runtime.process import ProcessRuntime
from session_manager.runtime.process.keeper import MAX_LOG
from tests.runtime.programs import python, serving
from tests.runtime.test_pods import ignore
from tests.runtime.test_start_failures import failure
from tests.waiting import until


async def test_output_of_all_pods_is_kept_in_order(runtime: ProcessRuntime, data: Path, session: str) -> None:
    for name in ("one", "two"):
        prints = f"import sys; print('{name} out'); print('{name} error', file=sys.stderr)"
        address = await runtime.start_pod(session, serving(prints), ignore)
        await runtime.stop_pod(session, address.uid, grace=5)
    assert await runtime.logs(session, 100) == "one out\none error\ntwo out\ntwo error"
    assert await runtime.logs(session, 3) == "one error\ntwo out\ntwo error"
    assert (data / "logs" / f"{session}.log").stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("tail", [0, -1])
async def test_zero_lines(runtime: ProcessRuntime, session: str, tail: int) -> None:
    await runtime.start_pod(session, serving("print('hello')"), ignore)
    assert await runtime.logs(session, tail) == ""


async def test_a_session_that_printed_nothing_has_no_lines(runtime: ProcessRuntime, session: str) -> None:
    assert await runtime.logs(session, 10) == ""


async def test_output_is_there_while_the_pod_runs(runtime: ProcessRuntime, session: str) -> None:
    await runtime.start_pod(session, serving("print('working')"), ignore)

    async def printed() -> bool:
        return await runtime.logs(session, 1) == "working"

    await until(printed)


async def test_bytes_that_are_not_text_and_an_endless_line(runtime: ProcessRuntime, session: str) -> None:
    await failure(
        runtime,
        session,
        python("import sys; sys.stdout.buffer.write(b'a\\r\\nb\\xff\\x00\\xe2\\x80\\xa8c\\n\\nd'); sys.exit(1)"),
    )
    assert await runtime.logs(session, 10) == "a\nb\ufffd\x00\u2028c\n\nd"


async def test_the_files_do_not_grow_beyond_a_limit(runtime: ProcessRuntime, data: Path, session: str) -> None:
    """The last line is there all the same, and more than one file's worth before it."""
    flood = "import sys\nfor number in range(100_000):\n    print(f'{number:0100}')\nsys.exit(1)"
    await failure(runtime, session, python(flood))
    files = list((data / "logs").iterdir())
    assert sorted(file.name for file in files) == [f"{session}.log", f"{session}.log.1"]
    assert sum(file.stat().st_size for file in files) < 2.2 * MAX_LOG
    lines = (await runtime.logs(session, MAX_LOG)).split("\n")
    assert len(lines) > MAX_LOG / 101
    assert [int(line) for line in lines[-3:]] == [99_997, 99_998, 99_999]


async def test_a_pod_that_closes_its_output_runs_on(runtime: ProcessRuntime, session: str) -> None:
    address = await runtime.start_pod(session, serving("import os; os.close(1); os.close(2)"), ignore)
    await runtime.stop_pod(session, address.uid, grace=5)
    again = await runtime.start_pod(session, serving("print('hello')"), ignore)
    await runtime.stop_pod(session, again.uid, grace=5)
    assert await runtime.logs(session, 10) == "hello"


async def test_output_that_cannot_be_written_does_not_stop_a_pod(
    runtime: ProcessRuntime, data: Path, session: str
) -> None:
    (data / "logs" / f"{session}.log").mkdir()
    address = await runtime.start_pod(session, serving("print('x' * 300_000)"), ignore)
    assert runtime.pods() == {session: address}
