"""``make run`` installs requirements.lock only: everything but the extras works, and a missing extra is named."""

from __future__ import annotations

import re
from importlib import metadata
from pathlib import Path

import pytest
from packaging.utils import canonicalize_name

from tests.cli.program import FrontDoor, run

LOCK = Path(__file__).parents[2] / "requirements.lock"
HIDE = """
import sys

class Hidden:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in NAMES or name in NAMES:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Hidden())
"""
# Parts of one namespace, of which requirements.lock has others.
NAMESPACES = {"google", "opentelemetry", "backports", ""}
PARTS = {"backports.zstd", "opentelemetry.sdk", "opentelemetry.exporter", "opentelemetry.proto"}


@pytest.fixture
def extras_hidden(tmp_path: Path) -> dict[str, str]:
    """The environment of a program that finds no package but those of requirements.lock."""
    locked = {str(canonicalize_name(name)) for name in re.findall(r"^([\w.-]+)(?=[=\[])", LOCK.read_text(), re.M)}
    modules = metadata.packages_distributions()
    kept = locked | {"session-manager", "pip"}
    hidden = {name for name, owners in modules.items() if not kept & {canonicalize_name(each) for each in owners}}
    hidden = hidden - NAMESPACES | PARTS
    assert "cryptography" in hidden
    assert not {"orjson", "fastapi", "pydantic"} & hidden
    folder = tmp_path / "site"
    folder.mkdir()
    (folder / "sitecustomize.py").write_text(f"NAMES = {sorted(hidden)!r}\n{HIDE}")
    return {"PYTHONPATH": str(folder)}


def test_a_session_lives_and_a_missing_collector_library_is_named(tmp_path: Path, extras_hidden: dict[str, str]):
    front = FrontDoor("dev", tmp_path, OTEL_EXPORTER_OTLP_ENDPOINT="http://127.0.0.1:9", **extras_hidden)
    try:
        session = front.client.create("ada")["uuid"]
        assert front.client.chat(session, "hello", wait=30)["status"] == "processed"
        assert "traces.missing" in [line.get("event") for line in front.log]
    finally:
        assert front.stop() == 0


@pytest.mark.parametrize(
    ("env", "extra"),
    [({"STORAGE_BUCKET": "gs://some-bucket"}, "backup"), ({"SESSION_RUNTIME": "kubernetes"}, "operator")],
)
def test_a_missing_extra_ends_the_start_in_one_line(
    tmp_path: Path, extras_hidden: dict[str, str], env: dict[str, str], extra: str
):
    done = run("serve", cwd=tmp_path, **env, **extras_hidden)
    assert done.returncode != 0
    assert f"[{extra}]" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("args", [("--help",), ("backup", "--help"), ("db", "--help")])
def test_help_needs_no_extra(tmp_path: Path, extras_hidden: dict[str, str], args: tuple[str, ...]):
    done = run(*args, cwd=tmp_path, **extras_hidden)
    assert (done.returncode, "Traceback" in done.stderr) == (0, False), done.stderr
