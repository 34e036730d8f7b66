"""``.env.example`` is what the settings say. ``make docs`` writes it."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from pydantic_core import PydanticUndefined

from session_manager.settings import Settings

ROOT = Path(__file__).parents[2]
FILE = ROOT / ".env.example"

HEAD = """\
# Copy it to .env and take the # away from what is to change. Of both the environment wins. .env never enters git or an
# image. Written by `make docs` from session_manager/settings.py; the first part is for docker-compose.yml only.

# === docker compose ===
# It refuses to start until these four have a value, so that none is left as everybody knows it. One each from
#   openssl rand -hex 24        (letters and digits only: they stand in an address)
# POSTGRES_PASSWORD and PGADMIN_PASSWORD count at the first start of their volumes; later they are changed inside.
POSTGRES_PASSWORD=
PGADMIN_PASSWORD=
REDIS_PASSWORD=
# name:key, the key of 16 characters or more; what callers send as "Authorization: Bearer KEY".
SESSION_API_KEYS=
# POSTGRES_USER=adk_user
# POSTGRES_DB=adk_sessions
# POSTGRES_PORT=5432
# PGADMIN_EMAIL=admin@example.com
# PGADMIN_PORT=5050

# A front door on this machine beside these services (make run, scripts/start_adk_api_server.sh):
# SESSION_DB_URI=postgresql://adk_user:PASSWORD@127.0.0.1:5432/adk_sessions
# REDIS_URL=redis://:PASSWORD@127.0.0.1:6379/0
"""
ABOVE = ("redis_password", "session_api_keys")


def env_example() -> str:
    lines = [HEAD]
    for title, names in sections().items():
        lines.append(f"# === {title} ===")
        for name in names:
            field = Settings.model_fields[name]
            lines.append(f"# {field.description}")
            lines.append(f"# {name.upper()}={shown(field.default)}")
        lines.append("")
    return "\n".join(lines)


def sections() -> dict[str, list[str]]:
    """Settings by the headings of settings.py."""
    found: dict[str, list[str]] = {}
    title = ""
    for line in (ROOT / "session_manager" / "settings.py").read_text("utf-8").splitlines():
        heading = re.fullmatch(r"    # (\S.*)", line)
        field = re.match(r"    (\w+): ", line)
        if heading:
            title = heading[1]
        elif field and field[1] in Settings.model_fields and field[1] not in ABOVE:
            found.setdefault(title, []).append(field[1])
    return found


def shown(value: Any) -> str:
    if value in (None, PydanticUndefined):
        return ""
    if isinstance(value, bool):
        return str(value).lower()
    return f"{value:g}" if isinstance(value, float) and value < 1e5 else str(value)


def test_it_is_what_the_settings_say():
    assert FILE.read_text("utf-8") == env_example(), "run: make docs"


def test_every_setting_stands_in_it_once():
    names = re.findall(r"^(?:# )?([A-Z][A-Z0-9_]+)=", FILE.read_text("utf-8"), re.M)
    assert {name.upper() for name in Settings.model_fields} - set(names) == set()
    assert {name for name in names if names.count(name) > 1} <= {"SESSION_DB_URI", "REDIS_URL"}


def test_no_password_stands_in_it():
    for name, value in re.findall(r"^(?:# )?([A-Z_]*(?:PASSWORD|KEYS?))=(.*)$", FILE.read_text("utf-8"), re.M):
        assert value == "", name


def test_as_it_is_it_changes_nothing(tmp_path: Path):
    (tmp_path / ".env").write_text(FILE.read_text("utf-8"))
    assert Settings(_env_file=tmp_path / ".env") == Settings(_env_file=None)


@pytest.mark.parametrize("name", [".gitignore", ".dockerignore"])
def test_what_is_made_of_it_stays_here(name: str):
    assert ".env" in (ROOT / name).read_text("utf-8").splitlines()


if __name__ in ("__main__", "env_example"):  # the latter by tests/test_docs.py
    FILE.write_text(env_example(), "utf-8")
