"""The documentation matches the code. ``python tests/test_docs.py`` writes the settings page and .env.example."""

from __future__ import annotations

import inspect
import re
import runpy
from pathlib import Path
from typing import Any

import pytest
from typer.main import get_command

from session_manager.api.table import table
from session_manager.cli.app import app
from session_manager.cli.failures import ExitCode
from session_manager.cli.serve import banner
from session_manager.domain.errors import SessionManagerError
from session_manager.settings import Settings
from tests.settings.written import meaning, written
from tests.test_prose import PENDING, texts_of

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
README = ROOT / "README.md"
SETTINGS = DOCS / "settings.md"
PAGES = [README, ROOT / "CHANGELOG.md", ROOT / "CONTRIBUTING.md", *sorted(DOCS.rglob("*.md"))]
TABLE = re.compile(r"(<!-- settings: .* -->\n)(.*?)(<!-- end of settings -->)", re.S)


def settings_table() -> str:
    """A table for each group of settings."""
    lines = []
    for title, group in Settings.groups().items():
        lines += [f"### {title.capitalize()}", ""]
        if group.__doc__:
            lines += [inspect.cleandoc(group.__doc__), ""]
        lines += ["| variable | default | meaning |", "|---|---|---|"]
        for each in group.model_fields.values():
            default = written(each.default)
            lines.append(f"| `{each.alias}` | {f'`{default}`' if default else ''} | {meaning(each)} |")
        lines.append("")
    return "\n".join(lines)


def test_the_settings_page_lists_every_setting_with_its_default():
    [(_, table, _)] = TABLE.findall(SETTINGS.read_text("utf-8"))
    assert table == settings_table()


@pytest.fixture
def routes() -> dict[str, Any]:
    """Every operation in OpenAPI by method and path."""
    document = table().documents.ours
    return {
        f"{method.upper()} {path}": call for path, calls in document["paths"].items() for method, call in calls.items()
    }


def test_the_first_screen_shows_what_dev_prints():
    shown = banner(Settings.from_environment(), 8080, ".venv/bin/session-manager")
    assert f"```text{shown}```" in README.read_text("utf-8")


def test_the_readme_is_short():
    assert len(README.read_text("utf-8").splitlines()) <= 90


def test_the_api_page_lists_every_route(routes: dict[str, Any]):
    lines = (DOCS / "http-api.md").read_text("utf-8").splitlines()
    table = "\n".join(line for line in lines if line.startswith("| `"))
    assert set(re.findall(r"`((?:GET|POST|PATCH|DELETE) /[^`]*)`", table)) == set(routes)


def test_the_api_page_lists_every_error_status():
    def statuses(error: type[SessionManagerError]) -> set[int]:
        return {error.http_status}.union(*(statuses(each) for each in error.__subclasses__()))

    listed = set(map(int, re.findall(r"^\| (\d{3}) \|", (DOCS / "http-api.md").read_text("utf-8"), re.M)))
    # The router itself answers 405.
    assert listed == (statuses(SessionManagerError) - {500, 502}) | {405}


def test_the_cli_page_lists_every_command_and_exit_code():
    text = (DOCS / "cli.md").read_text("utf-8")
    for name in vars(get_command(app))["commands"]:
        assert re.search(rf"`{name}\b", text), name
    assert set(re.findall(r"^\| (\d+) \| ", text, re.M)) == {str(int(code)) for code in ExitCode}


def anchors(page: Path) -> set[str]:
    """The anchors that GitHub makes from the headings of a page."""
    headings = re.findall(r"^#+ (.+)$", re.sub(r"(?ms)^ *```.*?^ *```", "", page.read_text("utf-8")), re.M)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_resolve(page: Path):
    links = [link for link in re.findall(r"\]\(([^)\s]+)\)", page.read_text("utf-8")) if "://" not in link]
    broken = []
    for link in links:
        name, _, anchor = link.partition("#")
        target = page.parent / name if name else page
        if not target.exists() or (anchor and anchor not in anchors(target)):
            broken.append(link)
    assert broken == []


@pytest.mark.parametrize("page", sorted(DOCS.rglob("*.md")), ids=lambda page: str(page.relative_to(DOCS)))
def test_every_page_is_in_an_index(page: Path):
    index = (page.parent if page.parent.name == "decisions" else DOCS) / "README.md"
    assert page == index or f"]({page.relative_to(index.parent)})" in index.read_text("utf-8")


PEOPLE_PAGES = [
    page for page in sorted(DOCS.rglob("*.md")) if page.parent.name != "decisions" and page.name != "README.md"
]


@pytest.mark.parametrize("page", PEOPLE_PAGES, ids=lambda page: str(page.relative_to(DOCS)))
def test_every_page_says_first_whom_it_is_for(page: Path):
    if str(page.relative_to(ROOT)) in PENDING:
        pytest.skip("this page is not rewritten yet")
    assert page.read_text("utf-8").split("\n\n")[1].startswith(("For ", "This page is for "))


def test_each_decision_has_a_number_of_its_own():
    """Numbers may be left out: people who work at the same time take them from ranges of their own."""
    numbers = [path.name[:5] for path in (DOCS / "decisions").glob("0*.md")]
    assert sorted(set(numbers)) == sorted(numbers)


def test_the_picture_of_the_layers_is_the_contract():
    """The diagram in architecture.md shows the layers of .importlinter, from top to bottom."""
    [block] = re.findall(r"^layers =\n((?: +.+\n)+)", (ROOT / ".importlinter").read_text("utf-8"), re.M)
    contract = [sorted(re.split(r"[ |]+", line.strip())) for line in block.splitlines()]
    [picture] = re.findall(r"^```text\n(.*?)^```", (DOCS / "architecture.md").read_text("utf-8"), re.M | re.S)
    shown = [sorted(re.findall(r"[a-z]+", line.split("  ", 1)[0])) for line in picture.splitlines() if line[:1] > " "]
    assert shown == contract


def test_paths_named_in_contributing_exist():
    """A path is inline code with a slash."""
    text = (DOCS / "contributing.md").read_text("utf-8")
    paths = {path for path in re.findall(r"`([\w.][\w./-]*/[\w./-]*)`", text) if not path.startswith(".venv")}
    assert len(paths) > 20
    assert sorted(path for path in paths if not (ROOT / path).exists()) == []


def test_errors_quoted_on_the_database_page_exist():
    section = (DOCS / "SESSION_DATABASE_CONFIG.md").read_text("utf-8").partition("## When it does not start")[2]
    quoted = re.findall(r"^\| ([^|]+) \| ", section, re.M)[1:]
    modules = (ROOT / "session_manager" / "store").rglob("*.py")
    errors = "\n".join(text.text for module in modules for text in texts_of(module))
    assert [error for error in quoted if error not in errors] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_modules_named_in_a_page_exist(page: Path):
    modules = set(re.findall(r"`((?:[a-z_]+/)+[a-z_]+\.py)`", page.read_text("utf-8")))
    roots = (ROOT, ROOT / "session_manager")
    assert sorted(name for name in modules if not any((root / name).exists() for root in roots)) == []


def test_changes_in_contributing_touch_four_files_at_most():
    [table] = re.findall(
        r"^## Where does it go\?.*?(^\| .*?)\n\n", (DOCS / "contributing.md").read_text("utf-8"), re.M | re.S
    )
    rows = table.splitlines()[2:]
    assert len(rows) >= 10
    for row in rows:
        assert len(re.findall(r"`[^`]*/[^`]*`", row)) <= 4, row


def test_the_tests_named_on_the_page_of_threats_exist():
    page = (ROOT / "docs" / "security.md").read_text("utf-8")
    files = set(re.findall(r"`(tests/[\w/]+\.py)`", page))
    names = set(re.findall(r"`(test_\w+)`", page))
    assert files
    assert names
    assert all((ROOT / each).is_file() for each in files)
    sources = "".join(each.read_text("utf-8") for each in (ROOT / "tests").rglob("test_*.py"))
    assert names <= set(re.findall(r"def (test_\w+)", sources))


if __name__ == "__main__":
    SETTINGS.write_text(
        TABLE.sub(lambda found: found[1] + settings_table() + found[3], SETTINGS.read_text("utf-8")), "utf-8"
    )
    runpy.run_path(str(ROOT / "tests" / "around" / "test_env_example.py"), run_name="env_example")
