"""Prose that a person reads is plain English: docstrings, comments, errors, logs, pages and charts.

``python tests/test_prose.py session_manager/turns docs`` lists what the rules find there, ``PENDING`` or not.
"""

from __future__ import annotations

import ast
import io
import re
import sys
import tokenize
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.prose_rules import GOOD, OPENINGS, PHRASES, Rule

ROOT = Path(__file__).parents[1]

PENDING: frozenset[str] = frozenset()
"""Paths that are not checked yet."""

TREE = (
    *sorted(f"session_manager/{path.name}" for path in (ROOT / "session_manager").iterdir() if path.name[0] != "_"),
    "operator/session_operator",
    "charts/session-manager",
    *sorted(f"docs/{path.name}" for path in (ROOT / "docs").iterdir()),
    "README.md",
    "CHANGELOG.md",
    "CONTRIBUTING.md",
    "Makefile",
    "Dockerfile",
    "docker-compose.yml",
    ".env.example",
    ".importlinter",
    ".ci",
    "hack",
    "benchmarks",
    "examples",
    "scripts",
)
SKIPPED = ("__pycache__", "hack/localkube/modules", "values.schema.json")
SQL = re.compile(r"\s*(?:SELECT|INSERT|UPDATE|DELETE|CREATE|ALTER|WITH|DROP|SET|PRAGMA)\b")
KINDS = {".py", ".md", ".lua", ".sql", ".yaml", ".yml", ".tpl", ".txt", ".sh", ""}


@dataclass(frozen=True)
class Text:
    """A piece of prose and the line of the file it begins in."""

    line: int
    text: str
    docstring: bool = False


@dataclass(frozen=True)
class Finding:
    path: str
    line: int
    phrase: str
    instead: str

    def __str__(self) -> str:
        return f'{self.path}:{self.line}: "{self.phrase}": {self.instead}'


def texts_of(path: Path) -> Iterator[Text]:
    content = path.read_text("utf-8", "replace")
    if path.suffix == ".py":
        yield from _python(content)
    elif path.suffix == ".md":
        yield Text(1, _without_code(re.sub(r"(?ms)^ *```.*?^ *```", _blank, content)))
    elif path.suffix in {".lua", ".sql"}:
        yield Text(1, _without_code(re.sub(r"(?m)^.*?(--[ \t]*|$)", "", content)))
    else:
        yield Text(1, re.sub(r"(?m)^(\s*)#+(?= |$)", r"\1", _without_code(content)))


def _python(content: str) -> Iterator[Text]:
    tree = ast.parse(content)
    seen = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str):
            seen.add(id(node.value))
            yield Text(node.lineno, _without_code(node.value.value), docstring=True)
    for node in ast.walk(tree):
        if isinstance(node, ast.JoinedStr):
            seen.update(id(part) for part in node.values)
            yield Text(node.lineno, "".join(_literal(part) for part in node.values))
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in seen:
            yield Text(node.lineno, "" if SQL.match(node.value) else _without_code(node.value))
    yield from _comments(content)


def _literal(part: ast.expr) -> str:
    return str(part.value) if isinstance(part, ast.Constant) else "{}"


def _comments(content: str) -> Iterator[Text]:
    """Each run of comment lines as one text."""
    run: list[tuple[int, str]] = []
    for token in tokenize.generate_tokens(io.StringIO(content).readline):
        if token.type != tokenize.COMMENT:
            continue
        line, text = token.start[0], token.string.lstrip("#: ")
        if run and line != run[-1][0] + 1:
            yield Text(run[0][0], _without_code("\n".join(each for _, each in run)))
            run = []
        run.append((line, text))
    if run:
        yield Text(run[0][0], _without_code("\n".join(each for _, each in run)))


def _without_code(text: str) -> str:
    """The text with the inside of back quotes and of HTML comments crossed out."""
    return re.sub(r"`+[^`]+`+|<!--.*?-->", lambda found: re.sub(r"\S", "x", found[0]), text)


def _blank(found: re.Match[str]) -> str:
    return "\n" * found[0].count("\n")


def findings(name: str) -> list[Finding]:
    """All findings in a file, or in every file below a folder."""
    found = []
    for path in _files(ROOT / name):
        for text in texts_of(path):
            found += [
                Finding(str(path.relative_to(ROOT)), text.line + newlines, " ".join(phrase.split()), rule.instead)
                for newlines, phrase, rule in _matches(text)
            ]
    return found


def _matches(text: Text) -> Iterator[tuple[int, str, Rule]]:
    if text.docstring:
        opening = text.text.lstrip()
        for rule in OPENINGS:
            if match := rule.regex.match(opening):
                yield 0, match[0][:60], rule
    for rule in PHRASES:
        for match in rule.regex.finditer(text.text):
            yield text.text.count("\n", 0, match.start()), match[0], rule


def _files(path: Path) -> list[Path]:
    if path.is_file():
        return [path]
    return sorted(
        each
        for each in path.rglob("*")
        if each.is_file() and each.suffix in KINDS and not any(part in str(each) for part in SKIPPED)
    )


def _pending(finding: Finding) -> bool:
    return any(finding.path == path or finding.path.startswith(f"{path}/") for path in PENDING)


@pytest.mark.parametrize("name", TREE)
def test_prose_is_plain(name: str) -> None:
    found = [finding for finding in findings(name) if not _pending(finding)]
    assert found == [], "\n" + "\n".join(map(str, found))


@pytest.mark.parametrize("rule", PHRASES, ids=lambda rule: rule.bad)
def test_each_phrase_is_found_and_good_prose_is_not(rule: Rule) -> None:
    assert rule.regex.search(rule.bad)
    assert [match[0] for match in rule.regex.finditer(GOOD)] == []


@pytest.mark.parametrize("rule", OPENINGS, ids=lambda rule: rule.bad)
def test_each_opening_is_found(rule: Rule) -> None:
    assert rule.regex.match(rule.bad)
    assert [line for line in GOOD.splitlines() if rule.regex.match(line)] == []


def test_a_finding_names_file_line_phrase_and_replacement(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys.modules[__name__], "ROOT", tmp_path)
    (tmp_path / "a.py").write_text('"""A module."""\n\n# What is right here,\n# it stands\n# in the file, for ever.\n')
    assert [str(finding) for finding in findings("a.py")] == [
        'a.py:4: "stands": use "is", "is listed", "appears"',
        'a.py:5: "for ever": use "until cancelled" or "forever"',
    ]


def test_pending_paths_exist() -> None:
    assert [path for path in sorted(PENDING) if not (ROOT / path).exists()] == []


if __name__ == "__main__":
    for each in sys.argv[1:] or TREE:
        for each_finding in findings(each):
            print(each_finding)
