"""``db``: look after the database. Heavy imports wait until one is asked for."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import asdict
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from session_manager.cli import show
from session_manager.cli.failures import ExitCode
from session_manager.cli.remote import AsJson
from session_manager.cli.serve import DataDir, configured

if TYPE_CHECKING:
    from session_manager.databases.code_schema import Stats
    from session_manager.databases.copying import Copied
    from session_manager.databases.merging import Merged
    from session_manager.settings import Settings

Address = Annotated[str, typer.Argument(help="postgresql://…, sqlite:///…, or the path of a SQLite file.")]
AnyAddress = Annotated[str | None, typer.Argument(help="Address or path; by default the database in use.")]
Into = Annotated[str | None, typer.Option(help="Target; by default the database in use.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Only show what would be done.")]

db = typer.Typer(name="db", help="Maintain the database.", no_args_is_help=True)


@db.command()
def upgrade(data_dir: DataDir = None) -> None:
    """Upgrade the database to the schema of this version.

    'dev' and 'serve' also do this when they start.
    """
    print(f"{asyncio.run(_upgrade(configured(data_dir=data_dir)))} is up to date")


async def _upgrade(settings: Settings) -> str:
    from session_manager.store.open import open_store  # noqa: PLC0415

    store = open_store(settings)
    try:
        await store.start()
    finally:
        await store.close()
    return store.uri


@db.command()
def copy(source: Address, target: Address, dry_run: DryRun = False, as_json: AsJson = False) -> None:
    """Copy a database into an empty one, of the same or the other engine.

    Stop everything that writes to SOURCE first; this command only reads it.
    After an interruption, the same command continues. At the end it compares
    the content of every table; the exit code is 6 if SOURCE has changed.
    """
    try:
        copied = asyncio.run(_copy(source, target, dry_run=dry_run, quiet=as_json))
    except KeyboardInterrupt:
        if not dry_run:
            show.remark("Interrupted. Run the same command again to continue.")
        raise
    if as_json:
        show.as_json({"rows": copied.rows, "sha256": copied.hashes, "misfits": copied.misfits, "dry_run": dry_run})
    else:
        _print_copied(copied, dry_run=dry_run)
    if copied.misfits:
        raise typer.Exit(ExitCode.FAILED)


async def _copy(source: str, target: str, *, dry_run: bool, quiet: bool) -> Copied:
    from session_manager.databases.copying import Copier  # noqa: PLC0415

    opened = _opener(configured())

    def progress(table: str, done: int, total: int) -> None:
        if not quiet:
            show.remark(f"{table}: {done} of {total} rows")

    missing: Literal["pretend", "make"] = "pretend" if dry_run else "make"
    async with (
        opened(source, read_only=True) as old,
        opened(target, read_only=False, if_missing=missing) as new,
    ):
        copier = Copier(old, new, progress)
        return await (copier.look() if dry_run else copier.copy())


def _print_copied(copied: Copied, *, dry_run: bool) -> None:
    for table, rows in copied.rows.items():
        print(f"{table:<16} {rows:>10}  {copied.hashes.get(table, '')[:16]}".rstrip())
    for misfit in copied.misfits:
        show.remark(f"cannot be copied: {misfit}")
    if dry_run:
        print("Nothing was written." + (" An unfinished copy would continue." if copied.resumed else ""))
    else:
        print("Copied and compared: every table has the same rows on both sides.")


@db.command()
def merge(source: Address, into: Into = None, dry_run: DryRun = False, as_json: AsJson = False) -> None:
    """Add the conversations of SOURCE to the database in use.

    Each is added completely or not at all. Rows that differ between the two
    are listed as conflicts and not changed; the exit code is then 6. SOURCE
    is only read. Messages that wait in a merged session run here.
    """
    merged = asyncio.run(_merge(source, into, dry_run=dry_run))
    if as_json:
        conflicts = [{"table": each.table, "key": each.key, "reason": each.reason} for each in merged.conflicts]
        show.as_json({"rows": merged.rows, "same": merged.same, "conflicts": conflicts, "dry_run": dry_run})
    else:
        _print_merged(merged, dry_run=dry_run)
    if merged.conflicts:
        raise typer.Exit(ExitCode.CONFLICT)


async def _merge(source: str, into: str | None, *, dry_run: bool) -> Merged:
    from session_manager.databases.merging import Merger  # noqa: PLC0415

    settings = configured()
    opened = _opener(settings)
    target = into or _configured(settings)
    async with (
        opened(source, read_only=True) as old,
        opened(target, read_only=False, if_missing="refuse") as new,
    ):
        return await Merger(old, new).merge(dry_run=dry_run)


def _print_merged(merged: Merged, *, dry_run: bool) -> None:
    for table, rows in merged.rows.items():
        print(f"{table:<16} {rows:>10} rows {'would be added' if dry_run else 'added'}")
    for conflict in merged.conflicts:
        print(f"conflict: {show.plain(conflict)}")
    print(f"{merged.same} already existed, {len(merged.conflicts)} in conflict, {merged.deleted} were deleted there.")


@db.command()
def stats(database: AnyAddress = None, as_json: AsJson = False) -> None:
    """Show the size of the database, and how much of it is active."""
    found = asyncio.run(_stats(database))
    if as_json:
        show.as_json(asdict(found))
        return
    print(f"{found.uri}: {show.size(found.bytes['database'])}")
    print(f"{found.active} sessions active in the last hour, {found.waiting} messages without a result")
    for status, number in found.sessions.items():
        print(f"  {status:<14} {number:>10}")
    for table, rows in found.rows.items():
        print(f"{table:<16} {rows:>10} rows {show.size(found.bytes[table]) if table in found.bytes else ''}".rstrip())


async def _stats(database: str | None) -> Stats:
    from session_manager.databases.code_schema import stats  # noqa: PLC0415

    settings = configured()
    async with _opener(settings)(database or _configured(settings), read_only=True) as engine:
        return await stats(engine)


@db.command()
def recount(database: AnyAddress = None) -> None:
    """Measure anew what each user has, for their quotas. Front doors cannot write meanwhile."""
    corrected = asyncio.run(_recount(database))
    print(f"corrected the usage of {len(corrected)} users" if corrected else "the usage of all users was right")


async def _recount(database: str | None) -> list[str]:
    from session_manager.databases.code_schema import check_version  # noqa: PLC0415
    from session_manager.store.transactions.usage import recount as measure  # noqa: PLC0415

    settings = configured()
    async with _opener(settings)(database or _configured(settings), read_only=False, if_missing="refuse") as engine:
        await check_version(engine)
        async with engine.writing():
            found: list[str] = await engine.run(measure())
    return found


def _configured(settings: Settings) -> str:
    """Return the path or address of the database in use."""
    from session_manager.store.open import database_path, database_uri  # noqa: PLC0415

    path = database_path(settings)
    return database_uri(settings) if path is None else str(path)


def _opener(settings: Settings) -> Callable[..., AbstractAsyncContextManager[Any]]:
    from session_manager.databases.opening import opened  # noqa: PLC0415

    return partial(opened, plain_hosts=settings.database.plain_hosts, patience=settings.database.patience)
