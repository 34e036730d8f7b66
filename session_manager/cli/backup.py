"""The command ``backup``: create, list, verify, restore and prune backups of the configured database."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from session_manager.cli import show
from session_manager.cli.failures import ExitCode
from session_manager.cli.remote import AsJson
from session_manager.cli.serve import DataDir, configured

if TYPE_CHECKING:
    from session_manager.backup.backups import Backups
    from session_manager.backup.catalog import Manifest

backup = typer.Typer(name="backup", help="Back up the database to a bucket, and restore it.", no_args_is_help=True)

_UNITS = ((86_400, "day"), (3600, "hour"), (60, "minute"), (1, "second"))
Name = Annotated[str | None, typer.Argument(help="Name of the backup; by default the newest.", show_default=False)]


@backup.command()
def create(data_dir: DataDir = None, as_json: AsJson = False) -> None:
    """Create a backup now. The front door may keep running."""
    backups = _open(data_dir)
    with _progress() as progress:
        made = backups.create(progress)
    show.result(_facts(made), backups.address(made.name), as_json=as_json)
    if not as_json:
        show.remark(f"{show.size(made.size)}, {show.size(made.stored_size)} stored, in {made.duration:.1f} s")


@backup.command("list")
def list_backups(data_dir: DataDir = None, as_json: AsJson = False) -> None:
    """List the backups, newest first, also those that no key authenticates."""
    found = _open(data_dir).catalog.everything()
    if as_json:
        show.as_json([_facts(each) for each in found])
    else:
        heads = ("backup", "taken at (UTC)", "engine", "size", "stored", "encrypted", "authenticated", "sessions")
        show.table(heads, (_row(each) for each in found), f"{len(found)} in total")


@backup.command()
def verify(name: Name = None, data_dir: DataDir = None, as_json: AsJson = False) -> None:
    """Fetch a backup and check it completely, as a restore does."""
    backups = _open(data_dir)
    chosen = _chosen(backups, name)
    with _progress() as progress:
        good = backups.verify(chosen.name, progress)
    line = f"{good.name} is good: {sum(good.rows.values())} rows in {len(good.rows)} tables"
    show.result({"good": True, **_facts(good)}, line, as_json=as_json)


@backup.command()
def restore(
    name: Name = None,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask for confirmation.")] = False,
    force: Annotated[bool, typer.Option("--force", help="Replace the database even if it is newer.")] = False,
    accept_unauthenticated: Annotated[
        bool,
        typer.Option("--accept-unauthenticated", help="Take a named backup although no key proves that it is yours."),
    ] = False,
    data_dir: DataDir = None,
    as_json: AsJson = False,
) -> None:
    """Replace the database with a backup.

    Stop the front door first. The backup is fetched and checked before
    anything changes, and the old database is kept next to the new one.
    A PostgreSQL database must not have any tables.
    """
    if accept_unauthenticated and name is None:
        raise typer.BadParameter("name the backup that --accept-unauthenticated is for")
    backups = _open(data_dir)
    manifest = _chosen(backups, name, accept_unauthenticated=accept_unauthenticated)
    backups.reject_older(manifest, force=force)
    if not yes:
        _confirm(backups, manifest)
    with _progress() as progress:
        restored = backups.restore(manifest.name, progress, force=force, accept_unauthenticated=accept_unauthenticated)
    line = f"Restored {manifest.name}, the state of {manifest.taken_at:%Y-%m-%d %H:%M:%S} UTC"
    show.result({**_facts(restored.manifest), "kept": restored.aside}, line, as_json=as_json)
    if restored.aside and not as_json:
        show.remark(f"The previous database is kept in {restored.aside}")


@backup.command()
def prune(
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only show what would be removed.")] = False,
    data_dir: DataDir = None,
    as_json: AsJson = False,
) -> None:
    """Remove backups that BACKUP_KEEP and BACKUP_KEEP_DAYS do not keep, and the remains of interrupted uploads."""
    pruned = _open(data_dir).prune(dry_run=dry_run)
    if as_json:
        show.as_json({"dry_run": dry_run, **asdict(pruned)})
        return
    for name in (*pruned.backups, *pruned.leftovers):
        print(show.plain(name))
    for name in pruned.kept:
        show.remark(f"{show.plain(name)} was kept: the bucket does not allow deleting it")
    verb = "would be removed" if dry_run else "removed"
    show.remark(f"{len(pruned.backups)} backups and {len(pruned.leftovers)} leftovers {verb}")


def _open(data_dir: Path | None) -> Backups:
    from session_manager.domain.errors import StartupFailure  # noqa: PLC0415  a second, with what follows
    from session_manager.domain.extras import needs_extra  # noqa: PLC0415

    settings = configured(data_dir=data_dir)
    try:
        from session_manager.backup.backups import open_backups  # noqa: PLC0415
    except ModuleNotFoundError:
        raise StartupFailure(needs_extra("A backup", "backup")) from None
    backups = open_backups(settings)
    if backups is None:
        raise StartupFailure("Backups are off; set STORAGE_BUCKET to a bucket or a folder")
    return backups


def _chosen(backups: Backups, name: str | None, *, accept_unauthenticated: bool = False) -> Manifest:
    from session_manager.domain.errors import NotFound  # noqa: PLC0415

    try:
        return backups.chosen(name, accept_unauthenticated=accept_unauthenticated)
    except NotFound as error:
        if name is None:
            raise
        raise NotFound(f"{error.detail}; to see their names: session-manager backup list") from None


def _confirm(backups: Backups, manifest: Manifest) -> None:
    """Show what would be taken, and what it would replace, and ask."""
    for name, value in _described(manifest, backups.source.changed_at()):
        show.remark(f"{name + ':':<15}{show.plain(value)}")
    if not typer.confirm("Replace the database with this backup?", err=True):
        raise typer.Exit(ExitCode.FAILED)


def _described(manifest: Manifest, changed: datetime | None) -> Iterator[tuple[str, str]]:
    yield "backup", manifest.name
    yield "taken at", f"{manifest.taken_at:%Y-%m-%d %H:%M:%S} UTC, {_apart(manifest.taken_at, changed)}"
    sessions, rows = _count(manifest.sessions, "session"), _count(sum(manifest.rows.values()), "row")
    yield "holds", f"{sessions}; {rows} in a database of {manifest.engine}"
    yield "size", f"{show.size(manifest.size)}, {show.size(manifest.stored_size)} stored"
    yield "encrypted", "yes" if manifest.encryption else "no"
    yield (
        "authenticated",
        "yes" if manifest.authenticated else "no: anyone who may write to the bucket may have made it",
    )


def _apart(taken_at: datetime, changed: datetime | None) -> str:
    """Return how much older or newer the backup is than the database."""
    if changed is None:
        return "and there is no database yet"
    seconds = round((taken_at - changed).total_seconds())
    if seconds == 0:
        return "as old as the database"
    return f"{_span(abs(seconds))} {'newer' if seconds > 0 else 'older'} than the database"


def _span(seconds: int) -> str:
    """Return a duration in the largest unit of which it has at least one."""
    size, unit = next((size, unit) for size, unit in _UNITS if seconds >= size)
    return _count(seconds // size, unit)


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"


@contextmanager
def _progress() -> Iterator[Callable[[str, int, int], None]]:
    """Show a progress bar on stderr for each phase, if it is a terminal."""
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn  # noqa: PLC0415

    console = show.console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    with Progress(*columns, console=console, disable=not console.is_terminal) as bars:
        phases: dict[str, Any] = {}

        def progress(phase: str, done: int, total: int) -> None:
            if phase not in phases:
                phases[phase] = bars.add_task(phase)
            bars.update(phases[phase], completed=done, total=total or None)

        yield progress


def _facts(manifest: Manifest) -> dict[str, Any]:
    facts: dict[str, Any] = manifest.model_dump(mode="json", exclude={"format"})
    return {**facts, "authenticated": manifest.authenticated}


def _row(manifest: Manifest) -> tuple[Any, ...]:
    sizes = (show.size(manifest.size), show.size(manifest.stored_size))
    marks = ("yes" if mark else "no" for mark in (manifest.encryption, manifest.authenticated))
    taken_at = f"{manifest.taken_at:%Y-%m-%d %H:%M:%S}"
    return (manifest.name, taken_at, manifest.engine, *sizes, *marks, manifest.sessions)
