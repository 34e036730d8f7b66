"""The documentation says what the code does. ``python tests/test_docs.py`` writes settings and .env.example."""

from __future__ import annotations

import re
import runpy
from pathlib import Path
from typing import Any

import pytest
from pydantic_core import PydanticUndefined
from typer.main import get_command

from session_manager.api.app import build_app
from session_manager.cli.app import app
from session_manager.cli.failures import ExitCode
from session_manager.cli.run import banner
from session_manager.domain.errors import SessionManagerError
from session_manager.runtime.classes import load_classes
from session_manager.settings import Settings
from session_manager.wiring.services import Services

ROOT = Path(__file__).parents[1]
README = ROOT / "README.md"
TABLE = re.compile(r"(<!-- settings: .* -->\n)(.*?)(<!-- end of settings -->)", re.S)


def settings_table() -> str:
    rows = ["| variable | default | meaning |", "|---|---|---|"]
    for name, field in Settings.model_fields.items():
        default = "" if field.default in (None, "", PydanticUndefined) else f"`{_shown(field.default)}`"
        rows.append(f"| `{name.upper()}` | {default} | {field.description} |")
    return "\n".join(rows) + "\n"


def _shown(value: Any) -> str:
    return (
        f"{value:g}"
        if isinstance(value, float) and value < 1e5
        else str(int(value) if isinstance(value, float) else value)
    )


def test_every_setting_stands_in_the_readme_with_its_default():
    [(_, table, _)] = TABLE.findall(README.read_text("utf-8"))
    assert table == settings_table()


@pytest.fixture
def routes(tmp_path: Path) -> dict[str, Any]:
    """Method and path of everything in OpenAPI; nothing is started."""
    settings = Settings(_env_file=None, data_dir=tmp_path, cloud_run_session_db_path=tmp_path / "sessions.db")
    front = build_app(Services(settings, load_classes(settings)))
    fastapi: Any = front._app
    document = fastapi.openapi()
    return {
        f"{method.upper()} {path}": call for path, calls in document["paths"].items() for method, call in calls.items()
    }


def test_the_first_screen_shows_what_dev_prints():
    shown = banner(Settings(_env_file=None), 8080, ".venv/bin/session-manager")
    assert f"```text{shown}```" in README.read_text("utf-8")


def test_every_route_stands_in_the_readme(routes: dict[str, Any]):
    table = "\n".join(line for line in README.read_text("utf-8").splitlines() if line.startswith("| `"))
    told = set(re.findall(r"`((?:GET|POST|PATCH|DELETE) /[^`]*)`", table))
    assert told == set(routes)


def test_every_status_of_an_error_stands_in_the_readme():
    def statuses(error: type[SessionManagerError]) -> set[int]:
        return {error.http_status}.union(*(statuses(each) for each in error.__subclasses__()))

    [paragraph] = re.findall(r"\n(400 invalid input, .*?)\n\n", README.read_text("utf-8"), re.S)
    told = set(map(int, re.findall(r"\b[45]\d\d\b", paragraph)))
    assert told == statuses(SessionManagerError) - {500, 501, 502}


def test_every_command_and_exit_code_stands_in_the_readme():
    text = README.read_text("utf-8")
    for name in vars(get_command(app))["commands"]:
        assert re.search(rf"\b{name}\b", text), name
    assert set(re.findall(r"^\| (\d+) \| ", text, re.M)) == {str(int(code)) for code in ExitCode}


@pytest.mark.parametrize("page", [README, ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))], ids=str)
def test_links_lead_somewhere(page: Path):
    text = page.read_text("utf-8")
    links = [link.partition("#")[0] for link in re.findall(r"\]\(([^)\s]+)\)", text) if "://" not in link]
    assert [link for link in links if not (page.parent / link).exists()] == []


def test_the_decisions_are_numbered_without_a_gap():
    names = sorted(path.name for path in (ROOT / "docs" / "decisions").glob("*.md"))
    assert [name[:5] for name in names] == [f"{number:04}-" for number in range(1, len(names) + 1)]


if __name__ == "__main__":
    README.write_text(
        TABLE.sub(lambda found: found[1] + settings_table() + found[3], README.read_text("utf-8")), "utf-8"
    )
    runpy.run_path(str(ROOT / "tests" / "around" / "test_env_example.py"), run_name="env_example")
