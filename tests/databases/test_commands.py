"""The commands ``db copy``, ``db merge`` and ``db stats``, as a person types them."""

from __future__ import annotations

import json
import signal
import sqlite3
from contextlib import closing
from pathlib import Path

import psutil
import pytest

from tests.cli.program import Running, call, run, until
from tests.servers.postgres import PASSWORD
from tests.store.databases import make, say
from tests.store.databases import opened as running


def test_copy(source: Path, postgres_uri: str, tmp_path: Path):
    planned = call("db", "copy", str(source), postgres_uri, "--dry-run")
    assert (planned.returncode, planned.stderr) == (0, "")
    assert planned.stdout.endswith("Nothing was written.\n")
    assert call("db", "copy", str(source), str(tmp_path / "new.db"), "--dry-run").returncode == 0
    assert not (tmp_path / "new.db").exists()
    done = call("db", "copy", f"sqlite:///{source}", postgres_uri)
    assert done.returncode == 0, done.stderr
    assert "message: 8 of 8 rows" in done.stderr
    assert done.stdout.endswith("every table has the same rows on both sides.\n")
    again = call("db", "copy", str(source), postgres_uri, "--json")
    assert (again.returncode, again.stdout) == (1, "")
    assert "has data already" in again.stderr
    back = call("db", "copy", postgres_uri, str(tmp_path / "back.db"), "--json")
    assert back.returncode == 0, back.stderr
    told = json.loads(back.stdout)
    assert (told["rows"]["message"], len(told["sha256"]["message"])) == (8, 64)
    assert PASSWORD not in "".join(each.stdout + each.stderr for each in (planned, done, again, back))


def test_a_copy_that_is_interrupted_says_what_to_do(source: Path, tmp_path: Path):
    target = tmp_path / "new.db"
    with closing(sqlite3.connect(target)) as connection:
        connection.execute("BEGIN EXCLUSIVE")  # so that the command waits
        copy = Running("db", "copy", str(source), str(target), cwd=tmp_path, DATABASE_PATIENCE="60")
        journal = psutil.Process(copy.pid)
        until(lambda: any(str(target) == each.path for each in journal.open_files()), "it has the target open")
        copy.signal(signal.SIGINT)
        connection.rollback()
        assert copy.ended() == 130
    assert copy.err.endswith("Interrupted. Run the same command again to continue.\n")


def test_copy_reports_rows_that_do_not_fit(source: Path, postgres_uri: str, tmp_path: Path):
    with closing(sqlite3.connect(source)) as connection:
        connection.execute("INSERT INTO app_states VALUES ('x', '{\"a\": \"\\u0000\"}', 1)")
        connection.commit()
    planned = call("db", "copy", str(source), postgres_uri, "--dry-run")
    assert planned.returncode == 1
    assert planned.stderr == "cannot be copied: app_states (x): state: contains a NUL\n"


async def test_merge_into_the_database_in_use(source: Path, tmp_path: Path):
    path = tmp_path / "data" / "sessions" / "sessions.db"
    async with running(path) as store:
        session = await make(store, user="bob")
        planned = run("db", "merge", str(source), "--dry-run", "--json", cwd=tmp_path)
        assert planned.returncode == 0, planned.stderr
        assert json.loads(planned.stdout)["rows"]["session"] == 2
        done = run("db", "merge", str(source), cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        assert "0 in conflict" in done.stdout
        with closing(sqlite3.connect(source)) as connection:
            connection.execute("UPDATE session SET name = 'renamed' WHERE user_id = 'bob'")
            connection.commit()
        again = run("db", "merge", str(source), "--json", cwd=tmp_path)
        assert again.returncode == 6
        assert [conflict["table"] for conflict in json.loads(again.stdout)["conflicts"]] == ["session"]
        await say(store, session)


@pytest.mark.parametrize(
    ("target", "words"),
    [
        ("mysql://x", "the address of a database is not valid; expected postgresql://…"),
        ("{uri}_gone", "the database of {shown}_gone does not exist"),
        ("{wrong}", "rejected the user or the password of {shown}"),
        ("postgresql://ada:secret@127.0.0.1:1/there", "postgresql://127.0.0.1:1/there is unavailable"),
    ],
    ids=["no such engine", "no such database", "wrong password", "away"],
)
def test_errors_name_the_database(source: Path, postgres_uri: str, target: str, words: str):
    places = {
        "uri": postgres_uri,
        "shown": postgres_uri.replace(f"postgres:{PASSWORD}@", ""),
        "wrong": postgres_uri.replace(PASSWORD, "wrong"),
    }
    done = call("db", "copy", str(source), target.format(**places), "--dry-run")
    assert done.returncode in (1, 7)
    assert words.format(**places) in done.stderr
    assert "SESSION_DB_URI" not in done.stderr
    assert PASSWORD not in done.stderr


def test_stats(source: Path, postgres_uri: str, tmp_path: Path):
    assert call("db", "copy", str(source), postgres_uri).returncode == 0
    for place in (str(source), postgres_uri):
        told = call("db", "stats", place, "--json")
        assert told.returncode == 0, told.stderr
        facts = json.loads(told.stdout)
        assert facts["bytes"]["database"] > 0
        assert (facts["rows"]["message"], facts["rows"]["events"]) == (8, 10)
        assert (facts["active"], facts["waiting"]) == (2, 2)
        assert facts["sessions"] == {"created": 2, "sleeping": 0, "failed": 0, "expired": 0}
    shown = call("db", "stats", SESSION_DB_URI=postgres_uri)
    assert shown.returncode == 0, shown.stderr
    assert "2 sessions active in the last hour, 2 messages without a result" in shown.stdout
    assert PASSWORD not in shown.stdout
    assert call("db", "stats", DATA_DIR=str(tmp_path)).returncode == 1
