"""``db``: look after the database. Heavy imports wait until one is asked for."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeVar

import typer

from session_manager.cli import show
from session_manager.cli.failures import ExitCode
from session_manager.cli.remote import AsJson
from session_manager.cli.serve import DataDir

if TYPE_CHECKING:
    from session_manager.databases.copying import Copied
    from session_manager.databases.merging import Merged
    from session_manager.databases.stats import Stats
    from session_manager.settings import Settings

T = TypeVar("T")

Address = Annotated[str, typer.Argument(help="postgresql://…, sqlite:///…, or the path of a SQLite file.")]
AnyAddress = Annotated[str | None, typer.Argument(help="Address or path; by default the database in use.")]
Into = Annotated[str | None, typer.Option(help="Another target than the database in use.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Only tell what would be done.")]

db = typer.Typer(help="Look after the database.", no_args_is_help=True)


@db.command()
def upgrade(data_dir: DataDir = None) -> None:
    """Bring the database to this version's schema.

    'dev' and 'serve' do so by themselves when they start.
    """
    from session_manager.cli.run import upgrade_database  # noqa: PLC0415

    upgrade_database(data_dir=data_dir)


@db.command()
def copy(source: Address, target: Address, dry_run: DryRun = False, as_json: AsJson = False) -> None:
    """Copy a whole database into an empty one, of the other engine or the same.

    Stop whatever writes to SOURCE first; it is only read. Run again what was
    interrupted, and it goes on where it was. At the end rows and content of
    every table are compared; 6 when SOURCE changed meanwhile.
    """
    try:
        copied = _work(_copy(source, target, dry_run=dry_run, quiet=as_json))
    except KeyboardInterrupt:
        if not dry_run:
            show.remark("Interrupted; the same command goes on where it was.")
        raise
    if as_json:
        show.as_json({"rows": copied.rows, "sha256": copied.hashes, "misfits": copied.misfits, "dry_run": dry_run})
    else:
        _tell_copied(copied, dry_run=dry_run)
    if copied.misfits:
        raise typer.Exit(ExitCode.FAILED)


async def _copy(source: str, target: str, *, dry_run: bool, quiet: bool) -> Copied:
    from session_manager.databases.copying import Copier  # noqa: PLC0415
    from session_manager.databases.opening import opened  # noqa: PLC0415

    options = _options()

    def tell(table: str, done: int, total: int) -> None:
        if not quiet:
            show.remark(f"{table}: {done} of {total} rows")

    missing: Literal["pretend", "make"] = "pretend" if dry_run else "make"
    async with (
        opened(source, read_only=True, **options) as old,
        opened(target, read_only=False, if_missing=missing, **options) as new,
    ):
        copier = Copier(old, new, tell)
        return await (copier.look() if dry_run else copier.copy())


def _tell_copied(copied: Copied, *, dry_run: bool) -> None:
    for table, rows in copied.rows.items():
        print(f"{table:<16} {rows:>10}  {copied.hashes.get(table, '')[:16]}".rstrip())
    for misfit in copied.misfits:
        show.remark(f"cannot be copied: {misfit}")
    if dry_run:
        print("Nothing was written." + (" An unfinished copy would go on." if copied.resumed else ""))
    else:
        print("Copied, and compared: every table has the same rows on both sides.")


@db.command()
def merge(source: Address, into: Into = None, dry_run: DryRun = False, as_json: AsJson = False) -> None:
    """Add what SOURCE has and the database in use has not.

    A conversation comes whole or not at all. What both have and is not the
    same is listed as a conflict and left as it is; then the exit code is 6.
    SOURCE is only read. What waits in a merged session runs here.
    """
    merged = _work(_merge(source, into, dry_run=dry_run))
    if as_json:
        conflicts = [{"table": each.table, "key": each.key, "reason": each.reason} for each in merged.conflicts]
        show.as_json({"rows": merged.rows, "same": merged.same, "conflicts": conflicts, "dry_run": dry_run})
    else:
        _tell_merged(merged, dry_run=dry_run)
    if merged.conflicts:
        raise typer.Exit(ExitCode.CONFLICT)


async def _merge(source: str, into: str | None, *, dry_run: bool) -> Merged:
    from session_manager.databases.merging import Merger  # noqa: PLC0415
    from session_manager.databases.opening import opened  # noqa: PLC0415

    options = _options()
    target = into or _configured()
    async with (
        opened(source, read_only=True, **options) as old,
        opened(target, read_only=False, if_missing="refuse", **options) as new,
    ):
        return await Merger(old, new).merge(dry_run=dry_run)


def _tell_merged(merged: Merged, *, dry_run: bool) -> None:
    for table, rows in merged.rows.items():
        print(f"{table:<16} {rows:>10} rows {'would come' if dry_run else 'came'}")
    for conflict in merged.conflicts:
        print(f"conflict: {show.plain(conflict)}")
    print(f"{merged.same} were there already, {len(merged.conflicts)} in conflict, {merged.deleted} deleted there.")


@db.command()
def stats(database: AnyAddress = None, as_json: AsJson = False) -> None:
    """How much the database holds, and how much of it is alive."""
    found = _work(_stats(database))
    if as_json:
        show.as_json(asdict(found))
        return
    print(f"{found.uri}: {_size(found.bytes['database'])}")
    print(f"{found.active} sessions active in the last hour, {found.waiting} messages without a result")
    for status, number in found.sessions.items():
        print(f"  {status:<14} {number:>10}")
    for table, rows in found.rows.items():
        print(f"{table:<16} {rows:>10} rows {_size(found.bytes[table]) if table in found.bytes else ''}".rstrip())


async def _stats(database: str | None) -> Stats:
    from session_manager.databases.opening import opened  # noqa: PLC0415
    from session_manager.databases.stats import stats  # noqa: PLC0415

    async with opened(database or _configured(), read_only=True, **_options()) as engine:
        return await stats(engine)


def _size(number: float) -> str:
    for unit in ("B", "KiB", "MiB"):
        if number < 1024:
            return f"{number:.3g} {unit}"
        number /= 1024
    return f"{number:.1f} GiB"


def _configured() -> str:
    """The database in use."""
    from session_manager.store.open import database_path, database_uri  # noqa: PLC0415

    settings = _settings()
    path = database_path(settings)
    return database_uri(settings) if path is None else str(path)


def _work(work: Coroutine[Any, Any, T]) -> T:
    from session_manager.logs import setup_logging  # noqa: PLC0415

    setup_logging(_settings())
    return asyncio.run(work)


def _options() -> dict[str, Any]:
    settings = _settings()
    return {"plain_hosts": settings.database.plain_hosts, "patience": settings.database.patience}


def _settings() -> Settings:
    from session_manager.settings import Settings  # noqa: PLC0415

    return Settings.from_environment()
