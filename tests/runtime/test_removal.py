"""Removing a folder while a process of its pod still writes into it."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from session_manager.runtime.process.folders import remove_folder


@pytest.fixture
def outside(tmp_path: Path) -> Path:
    """A folder with content, which the removed folder does not contain."""
    outside = tmp_path / "outside"
    outside.mkdir(mode=0o750)
    (outside / "file").touch()
    return outside


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with nested folders."""
    folder = tmp_path / "folder"
    (folder / "a" / "b").mkdir(parents=True)
    (folder / "a" / "c").mkdir()
    return folder


def add(what: str, folder: Path, outside: Path) -> None:
    if what == "file":
        (folder / "new").touch()
    elif what == "link":
        (folder / "new").symlink_to(outside)
    else:
        (folder / "new" / "inner").mkdir(parents=True)


def before_call(monkeypatch: pytest.MonkeyPatch, name: str, number: int, action: Callable[[], None]) -> None:
    """Run ``action`` right before a function of os is called for this time, counted from 1."""
    real, calls = getattr(os, name), []

    def replaced(*args: Any, **kwargs: Any) -> Any:
        calls.append(args)
        if len(calls) == number:
            action()
        return real(*args, **kwargs)

    monkeypatch.setattr(os, name, replaced)


@pytest.mark.parametrize("removal", [1, 2, 3, 4])  # the last one is that of the folder itself
@pytest.mark.parametrize("what", ["file", "link", "folder"])
def test_what_appears_meanwhile_is_removed_too_and_no_link_is_followed(
    folder: Path, outside: Path, monkeypatch: pytest.MonkeyPatch, what: str, removal: int
) -> None:
    before_call(monkeypatch, "rmdir", removal, lambda: add(what, folder, outside))
    remove_folder(folder)
    assert not folder.exists()
    assert (outside / "file").exists()
    assert outside.stat().st_mode & 0o777 == 0o750


def test_a_folder_that_is_not_empty_when_it_is_removed_is_emptied_again(
    folder: Path, outside: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before_call(monkeypatch, "rmdir", 1, lambda: add("link", folder / "a", outside))
    remove_folder(folder)
    assert not folder.exists()
    assert (outside / "file").exists()


def test_a_folder_that_is_replaced_by_a_link_is_not_followed(
    folder: Path, outside: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def replace() -> None:
        (folder / "a").rename(folder.parent / "moved")
        (folder / "a").symlink_to(outside)

    before_call(monkeypatch, "open", 2, replace)
    remove_folder(folder)
    assert not folder.exists()
    assert (outside / "file").exists()
    assert outside.stat().st_mode & 0o777 == 0o750


def test_a_folder_that_cannot_be_removed_is_an_error(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise PermissionError

    monkeypatch.setattr(os, "rmdir", refuse)
    with pytest.raises(PermissionError):
        remove_folder(folder)
