"""The contract on the operator's imports in .importlinter is complete and true."""

from __future__ import annotations

import re
from configparser import ConfigParser
from pathlib import Path

import session_manager
import session_operator

ROOT = Path(session_operator.__file__ or "").parents[2]
CONTRACT = ConfigParser()
CONTRACT.read(ROOT / ".importlinter")


def test_every_package_is_imported_or_forbidden():
    contract = CONTRACT["importlinter:contract:operator"]
    named = contract["name"].removeprefix("the operator imports ").removesuffix(", and nothing else")
    allowed = {each.partition(".")[0] for each in re.split(", | and ", named)}
    forbidden = {each.split(".")[1] for each in contract["forbidden_modules"].split() if each.count(".") == 1}
    sources = Path(session_operator.__file__ or "").parent.glob("*.py")
    imported = set(re.findall(r"^from session_manager\.(\w+)", "".join(map(Path.read_text, sources)), re.MULTILINE))
    there = {each.stem for each in Path(session_manager.__file__ or "").parent.iterdir() if each.stem[0].isalpha()}
    assert imported == allowed
    assert forbidden == {each for each in there if each.isidentifier()} - allowed - {"py"}
