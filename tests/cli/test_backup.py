"""``session-manager backup``, and a conversation that survives its machine."""

from __future__ import annotations

import asyncio
import base64
import json
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
import requests

from session_manager.backup.catalog import data_of, manifest_of
from session_manager.cli.backup import _apart
from tests.backup.databases import fill, texts
from tests.cli.program import FrontDoor, call, until
from tests.servers import shared
from tests.servers.gcs import GcsServer


class Machine:
    """A data folder and a bucket."""

    def __init__(self, folder: Path) -> None:
        self.database = folder / "data" / "sessions" / "sessions.db"
        self.bucket = folder / "bucket"
        self._env = {"DATA_DIR": str(folder / "data"), "STORAGE_BUCKET": f"file://{self.bucket}"}

    def run(self, *args: str, stdin: str = "", **env: str) -> Any:
        return call("backup", *args, stdin=stdin, **{**self._env, **env})

    def printed(self, *args: str) -> Any:
        done = self.run(*args, "--json")
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    found = Machine(tmp_path)
    asyncio.run(fill(found.database, sessions=2, messages=3))
    return found


def test_create_list_verify(machine: Machine):
    made = machine.printed("create")
    assert made["rows"]["session"] == 2
    assert machine.printed("list") == [made]
    assert machine.printed("verify")["good"]
    assert machine.run("create").stdout.startswith(f"file://{machine.bucket}/session_backups/")
    listed = machine.run("list").stdout
    assert made["name"] in listed
    assert "2 in total" in listed


def test_a_manifest_cannot_control_the_terminal(machine: Machine):
    manifest = machine.bucket / manifest_of(machine.printed("create")["name"])
    manifest.write_text(json.dumps(json.loads(manifest.read_text()) | {"rows": {"\x1b[2Jx": 1}}))
    told = machine.run("verify")
    assert told.returncode == 1
    assert "[2Jx" in told.stderr
    assert "\x1b" not in told.stdout + told.stderr


def test_restore_asks_keeps_the_old_database_and_does_not_replace_a_newer_one(machine: Machine):
    made = machine.printed("create")
    assert machine.run("restore", stdin="n\n").returncode == 1
    assert machine.run("restore", stdin="y\n").returncode == 0
    asyncio.run(fill(machine.database, sessions=1, messages=1))
    refused = machine.run("restore", "--yes")
    assert refused.returncode == 6
    assert "after the backup" in refused.stderr
    restored = machine.printed("restore", made["name"], "--yes", "--force")
    assert len(texts(machine.database)) == 6
    assert len(texts(Path(restored["kept"]))) == 7


def test_the_question_says_what_is_taken_and_what_is_replaced(machine: Machine):
    plain = machine.printed("create")["name"]
    key = {"BACKUP_ENCRYPTION_KEYS": base64.b64encode(bytes(32)).decode()}
    refused = machine.run("restore", plain, "--yes", **key)
    assert (refused.returncode, "--accept-unauthenticated" in refused.stderr) == (1, True)
    assert machine.run("restore", "--yes", "--accept-unauthenticated", **key).returncode == 2
    asked = machine.run("restore", plain, "--accept-unauthenticated", stdin="n\n", **key)
    assert asked.returncode == 1
    for words in (
        plain,
        "2 sessions; ",
        " rows in a database of sqlite",
        "stored",
        "encrypted:     no",
        "authenticated: no: anyone",
    ):
        assert words in asked.stderr
    assert "the database\n" in asked.stderr
    assert machine.run("restore", plain, "--accept-unauthenticated", "--yes", **key).returncode == 0
    assert json.loads(machine.run("list", "--json", **key).stdout)[0]["authenticated"] is False


def test_prune_dry_run_shows_what_would_be_removed(machine: Machine):
    machine.printed("create")
    keep = {"BACKUP_KEEP": "1", "BACKUP_KEEP_DAYS": "0"}
    old = machine.printed("list")[0]["name"]
    machine.printed("create")
    assert old in machine.run("prune", "--dry-run", **keep).stdout
    assert len(machine.printed("list")) == 2
    assert old in machine.run("prune", **keep).stdout
    assert len(machine.printed("list")) == 1


def test_a_missing_database_is_named(machine: Machine):
    machine.database.unlink()
    done = machine.run("create")
    assert (done.returncode, f"({machine.database} is missing or empty)" in done.stderr) == (1, True)


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0, "as old as the database"),
        (-1, "1 second older than the database"),
        (7300, "2 hours newer than the database"),
        (-86_400 * 3, "3 days older than the database"),
    ],
)
def test_the_age_of_a_backup_in_words(seconds: int, words: str):
    changed = datetime(2026, 1, 31, tzinfo=UTC)
    assert _apart(changed + timedelta(seconds=seconds), changed) == words


@pytest.mark.parametrize(
    ("args", "env", "code", "words"),
    [
        (("create",), {"STORAGE_BUCKET": "off"}, 1, "STORAGE_BUCKET"),
        (("create",), {"STORAGE_BUCKET": "ftp://nowhere"}, 1, "gs://bucket"),
        (("create",), {"BACKUP_ENCRYPTION_KEYS": "short"}, 1, "BACKUP_ENCRYPTION_KEYS"),
        (("verify", "nothing"), {}, 3, "no such backup; to see their names: session-manager backup list"),
        (("restore", "--yes"), {}, 3, "no backup"),
    ],
    ids=["off", "no place", "no key", "unknown", "none"],
)
def test_a_mistake_is_one_line(machine: Machine, args: tuple[str, ...], env: dict[str, str], code: int, words: str):
    done = machine.run(*args, **env)
    assert (done.returncode, done.stdout) == (code, "")
    assert done.stderr.count("\n") == 1
    assert words in done.stderr


class Refuses(BaseHTTPRequestHandler):
    """A storage service that takes no request, whatever it is."""

    def do_GET(self) -> None:
        self.send_response(400)
        self.end_headers()
        self.wfile.write(b'{"error": {"code": 400, "message": "Invalid bucket name"}}')

    def log_message(self, *_: Any) -> None:
        pass


def test_a_rejection_by_the_bucket_is_one_line(machine: Machine):
    with HTTPServer(("127.0.0.1", 0), Refuses) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        done = machine.run("list", STORAGE_BUCKET="No_Bucket", STORAGE_EMULATOR_HOST=f"127.0.0.1:{server.server_port}")
        server.shutdown()
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.count("\n") == 1
    assert "gs://No_Bucket: Invalid bucket name" in done.stderr


def test_a_damaged_backup_is_not_good(machine: Machine):
    made = machine.printed("create")
    data = machine.bucket / data_of(made["name"])
    data.write_bytes(data.read_bytes()[:-1])
    done = machine.run("verify")
    assert done.returncode == 1
    assert "another size" in done.stderr


@pytest.mark.timeout(150)
def test_a_new_machine_has_the_conversation(tmp_path: Path, redis_url: str, start):
    """Serve with a bucket, chat, SIGTERM; the next machine has nothing but the bucket."""
    with GcsServer() as gcs, shared(gcs.pid):
        common = {"REDIS_URL": redis_url, "STORAGE_BUCKET": "conversations", "STORAGE_EMULATOR_HOST": gcs.host}
        first = start("serve", DATA_DIR=str(tmp_path / "first"), **common)
        ready(first)
        session = first.said("create")
        assert first.said("chat", session, "remember the sea") == "You said: remember the sea"
        assert first.stop() == 0
        [stored] = (line for line in first.log if line["event"] == "start.storage")
        assert stored["backup_bucket"] == "gs://conversations"
        made = [line for line in first.log if line["event"] == "backup.made"][-1]
        assert made["stored_size"] > 0
        assert made["duration"] >= 0
        second = start("serve", DATA_DIR=str(tmp_path / "second"), **common)
        ready(second)
        [restored] = (line for line in second.log if line["event"] == "backup.restored")
        assert restored["what"] == f"backup {made['backup']}"
        [message] = second.printed("messages", session)["messages"]
        assert message["message"] == "remember the sea"
        assert second.said("chat", session, "and now?") == "You said: and now?"
        assert second.stop() == 0


def ready(front: FrontDoor) -> None:
    until(lambda: requests.get(f"{front.url}/readyz", timeout=10).ok, "ready")
