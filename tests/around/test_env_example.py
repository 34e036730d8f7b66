"""``.env.example`` is what the settings say. ``make docs`` writes it."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from session_manager import settings
from session_manager.settings import Settings
from tests.settings.written import meaning, written

ROOT = Path(__file__).parents[2]
FILE = ROOT / ".env.example"

HEAD = """\
# Copy this file to .env and uncomment what you want to change. A variable of the environment wins over .env. Neither
# git nor images contain .env. `make docs` writes this file from session_manager/settings; its first part is for
# docker-compose.yml only.

# === docker compose ===
# Compose does not start until these four have a value, so that there are no default passwords. Make each with
#   openssl rand -hex 24        (in .env, a $ would need escaping; hex needs none)
# POSTGRES_PASSWORD and PGADMIN_PASSWORD apply when their volumes are created; change them inside the service later.
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
ABOVE = ("REDIS_PASSWORD", "SESSION_API_KEYS")


def env_example() -> str:
    lines = [HEAD]
    for title, group in Settings.groups().items():
        lines.append(f"# === {title} ===")
        if group.__doc__:
            lines.append(f"# {group.__doc__}")
        for each in group.model_fields.values():
            if each.alias not in ABOVE:
                lines += [f"# {meaning(each)}", f"# {each.alias}={written(each.default)}"]
        lines.append("")
    return "\n".join(lines)


def test_it_matches_the_settings():
    assert FILE.read_text("utf-8") == env_example(), "run: make docs"


def test_every_setting_is_listed_once():
    names = re.findall(r"^(?:# )?([A-Z][A-Z0-9_]+)=", FILE.read_text("utf-8"), re.M)
    assert Settings.declared().keys() <= set(names)
    assert {name for name in names if names.count(name) > 1} <= {"SESSION_DB_URI", "REDIS_URL"}


def test_it_contains_no_password():
    for name, value in re.findall(r"^(?:# )?([A-Z_]*(?:PASSWORD|KEYS?))=(.*)$", FILE.read_text("utf-8"), re.M):
        assert value == "" or name == "RATE_LIMIT_FAILED_KEYS", name


def test_unchanged_it_has_no_effect(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    expected = Settings.from_environment()
    (tmp_path / ".env").write_text(FILE.read_text("utf-8"))
    monkeypatch.setattr(settings, "DOT_ENV", tmp_path / ".env")
    assert Settings.from_environment() == expected


@pytest.mark.parametrize("name", [".gitignore", ".dockerignore"])
def test_copies_of_it_stay_local(name: str):
    assert ".env" in (ROOT / name).read_text("utf-8").splitlines()


if __name__ in ("__main__", "env_example"):  # the latter by tests/test_docs.py
    FILE.write_text(env_example(), "utf-8")
