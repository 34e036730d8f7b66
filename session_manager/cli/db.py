"""``db``: look after the database. Heavy imports wait until one is asked for."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer

from session_manager.cli import show
from session_manager.cli.failures import ExitCode
from session_manager.cli.remote import AsJson
from session_manager.cli.serving import DataDir

if TYPE_CHECKING:
    from session_manager.settings import Settings
    from session_manager.store.maintenance.copying import Copied

T = TypeVar("T")

Address = Annotated[str, typer.Argument(help="postgresql://…, sqlite:///…, or the path of a SQLite file.")]
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
    copied = _work(_copy(source, target, dry_run=dry_run, quiet=as_json))
    if as_json:
        show.as_json({"rows": copied.rows, "sha256": copied.hashes, "misfits": copied.misfits, "dry_run": dry_run})
    else:
        _tell_copied(copied, dry_run=dry_run)
    if copied.misfits:
        raise typer.Exit(ExitCode.FAILED)


async def _copy(source: str, target: str, *, dry_run: bool, quiet: bool) -> Copied:
    from session_manager.store.maintenance.copying import Copier  # noqa: PLC0415
    from session_manager.store.maintenance.opening import opened  # noqa: PLC0415

    options = _options()

    def tell(table: str, done: int, total: int) -> None:
        if not quiet:
            show.remark(f"{table}: {done} of {total} rows")

    async with opened(source, read_only=True, **options) as old, opened(target, read_only=False, **options) as new:
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


def _work(work: Coroutine[Any, Any, T]) -> T:
    from session_manager.logs import setup_logging  # noqa: PLC0415

    setup_logging(_settings())
    return asyncio.run(work)


def _options() -> dict[str, Any]:
    settings = _settings()
    return {"plain_hosts": settings.session_db_plain_hosts, "patience": settings.database_patience}


def _settings() -> Settings:
    from session_manager.cli.config import load_settings  # noqa: PLC0415

    return load_settings()
