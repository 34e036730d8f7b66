"""Backups of a real PostgreSQL: made by its own programs on one snapshot, restored only into an empty database."""

from __future__ import annotations

import asyncio
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from session_manager.backup import postgres as postgres_module
from session_manager.backup.backups import Backups
from session_manager.backup.catalog import Retention, data_of, manifest_of
from session_manager.backup.packing import Keys
from session_manager.backup.postgres import PostgresSource, Server
from session_manager.domain.errors import BackupDamaged, BackupError, Conflict
from session_manager.storage.places import Place
from session_manager.store.postgres.adapter import PostgresStore
from tests.backup.databases import add_session, say
from tests.servers import shared
from tests.servers.postgres import PASSWORD, PostgresServer, find_programs, postgres_server

QUOTED = '''CREATE SCHEMA "odd one"; CREATE TABLE "odd one"."it's ""x""" (a text);
INSERT INTO "odd one"."it's ""x""" VALUES (E'a\\nb'), ('\\.'), ('COPY public.session (uuid) FROM stdin;')'''


@pytest.fixture(scope="module")
def postgres() -> Iterator[PostgresServer]:
    with postgres_server() as server, shared(server.pid):
        yield server


@pytest.fixture(autouse=True)
def _programs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", f"{find_programs()}:{os.environ['PATH']}")


@pytest.fixture
def names(postgres: PostgresServer) -> Iterator[Iterator[str]]:
    """Addresses of new, empty databases."""
    made: list[str] = []

    def make() -> Iterator[str]:
        while True:
            made.append(f"backup_{len(made)}")
            yield postgres.create_database(made[-1])

    yield make()
    for name in made:
        postgres.drop_database(name)


@pytest.fixture
async def uri(postgres: PostgresServer, names: Iterator[str]) -> str:
    """A database with a session, messages, and a foreign table."""
    address = next(names)
    await talk(address, 20)
    postgres.execute(QUOTED, "backup_0")
    return address


async def talk(uri: str, messages: int) -> None:
    store = PostgresStore(uri, pool=4)
    await store.start()
    try:
        session = await add_session(store)
        await asyncio.gather(*(say(store, session, f"hello {number}") for number in range(messages)))
    finally:
        await store.close()


def of(uri: str, place: Place) -> Backups:
    return Backups(PostgresSource(uri), place, Keys(), Retention(8, 14.0))


async def make(backups: Backups):
    return await asyncio.to_thread(backups.create)


async def test_a_backup_comes_back_in_an_empty_database(uri: str, names: Iterator[str], place: Place):
    made = await make(of(uri, place))
    assert made.engine == "postgresql"
    assert made.rows["public.session"] == 1
    assert made.rows["public.message"] == 20
    assert made.rows['odd one.it\'s "x"'] == 3
    await asyncio.to_thread(of(uri, place).verify, made.name)
    other = of(next(names), place)
    restored = await asyncio.to_thread(other.restore)
    assert restored.manifest == made
    again = await make(other)
    assert (again.rows, again.schema_version) == (made.rows, made.schema_version)


async def test_a_database_with_tables_is_never_restored_into(uri: str, folder: Place):
    backups = of(uri, folder)
    made = await make(backups)
    with pytest.raises(Conflict, match="contains tables"):
        await asyncio.to_thread(lambda: backups.restore(made.name, force=True))


async def test_missing_rows_undo_the_whole_restore(
    uri: str, names: Iterator[str], folder: Place, monkeypatch: pytest.MonkeyPatch
):
    """The count at the end of the transaction decides."""
    made = await make(of(uri, folder))
    other = of(next(names), folder)
    monkeypatch.setattr(other.source, "check", lambda *_: None)
    monkeypatch.setattr(
        other.catalog, "get", lambda name, **_: made.model_copy(update={"rows": {**made.rows, "public.message": 21}})
    )
    with pytest.raises(BackupError) as raised:
        await asyncio.to_thread(other.restore, made.name)
    assert "rows of" in raised.value.reason
    assert not await asyncio.to_thread(other.source.holds_data)


@pytest.mark.parametrize("breakout", ["$check$ ", "$$ ", "' "])
async def test_names_in_a_manifest_are_not_run_as_commands(
    uri: str, names: Iterator[str], tmp_path: Path, folder: Place, breakout: str
):
    """An attacker who may write to the bucket must not run commands of psql on the machine that restores."""
    made = await make(of(uri, folder))
    ran = tmp_path / "ran"
    evil = f"public.x{breakout}\\! : >{ran}\n"
    folder.delete(manifest_of(made.name))
    altered = made.model_copy(update={"rows": {**made.rows, evil: 0}})
    folder.write(manifest_of(made.name), [altered.model_dump_json().encode()])
    other = of(next(names), folder)
    with pytest.raises(BackupError):
        await asyncio.to_thread(other.restore, made.name)
    assert not ran.exists()
    assert not await asyncio.to_thread(other.source.holds_data)


async def test_a_dump_that_is_cut_off_undoes_the_whole_restore(
    uri: str, names: Iterator[str], tmp_path: Path, folder: Place
):
    source = PostgresSource(uri)
    dump = tmp_path / "dump"
    await asyncio.to_thread(source.dump, dump, lambda *_: None)
    dump.write_bytes(dump.read_bytes()[: -dump.stat().st_size // 3])
    made = await make(of(uri, folder))
    with pytest.raises(BackupDamaged):
        await asyncio.to_thread(source.check, dump, made, lambda *_: None)
    other = PostgresSource(next(names))
    with pytest.raises(BackupError):
        await asyncio.to_thread(other.replace, dump, made, lambda *_: None)
    assert not await asyncio.to_thread(other.holds_data)


async def test_a_backup_is_one_state_while_others_write(uri: str, folder: Place):
    backups = of(uri, folder)
    writing = asyncio.create_task(talk(uri, 400))
    made = [await make(backups) for _ in range(2)]
    await writing
    for each in made:
        await asyncio.to_thread(backups.verify, each.name)
    last = await make(backups)
    assert last.rows["public.message"] == 420


async def test_several_front_doors_make_one_backup_per_interval(uri: str, folder: Place):
    def due(_: int) -> str | None:
        try:
            return of(uri, folder).create_if_due(3600).name
        except Conflict:
            return None

    found = await asyncio.gather(*(asyncio.to_thread(due, number) for number in range(4)))
    assert len(set(found) - {None}) == 1
    assert await asyncio.to_thread(due, 5) in found
    assert len(of(uri, folder).catalog.all()) == 1


@pytest.mark.parametrize("where", ["login", "query"])
async def test_the_password_is_not_on_any_command_line(
    uri: str, folder: Place, monkeypatch: pytest.MonkeyPatch, where: str
):
    if where == "query":
        uri = uri.replace(f":{PASSWORD}@", "@") + f"?password={PASSWORD}"
    started: list[str] = []
    popen = subprocess.Popen

    def listen(command: list[Any], **options: Any):
        started.append(" ".join(map(str, command)))
        return popen(command, **options)

    monkeypatch.setattr(subprocess, "Popen", listen)
    await make(of(uri, folder))
    [command] = [each for each in started if "pg_dump" in each and "--snapshot" in each]
    assert PASSWORD not in command
    assert PASSWORD not in repr(Server(uri))


async def test_errors_are_reported_without_secrets(postgres: PostgresServer, folder: Place):
    address = postgres.uri.replace(PASSWORD, "wrong-password")
    with pytest.raises(BackupError) as raised:
        await make(of(address, folder))
    assert "password authentication failed" in raised.value.reason
    assert "wrong-password" not in f"{raised.value.detail} {raised.value.reason}"


async def test_an_invalid_address_is_reported_without_repeating_it(folder: Place):
    with pytest.raises(BackupError) as raised:
        await make(of("postgresql://ada:secret@127.0.0.1:secret/x", folder))
    assert raised.value.__cause__ is None
    assert "secret" not in f"{raised.value.detail} {raised.value.reason}"


async def test_a_missing_pg_dump_is_reported(uri: str, folder: Place, monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(postgres_module, "_DEBIAN", tmp_path)
    with pytest.raises(BackupError, match="pg_dump is not installed"):
        await make(of(uri, folder))


async def test_an_altered_dump_is_rejected(uri: str, folder: Place):
    backups = of(uri, folder)
    made = await make(backups)
    data = bytearray(b"".join(folder.read(data_of(made.name))))
    data[len(data) // 2] ^= 1
    folder.write(data_of(made.name), [bytes(data)])
    with pytest.raises(BackupDamaged):
        await asyncio.to_thread(backups.verify, made.name)
