"""The options that all commands share which call a front door."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, Any, Concatenate, ParamSpec

import typer

from session_manager.cli.show import typed
from session_manager.domain.values import valid_user_id

if TYPE_CHECKING:
    from session_manager.client import Client

P = ParamSpec("P")

DEFAULT_URL = "http://127.0.0.1:8080"
NEEDS_KEY = "this front door needs a key; set SESSION_MANAGER_KEY or pass --key"


def _option(name: str, text: str) -> Any:
    return typer.Option(envvar=f"SESSION_MANAGER_{name}", help=text, rich_help_panel="Front door")


_OPTIONS: dict[str, tuple[Any, str | None]] = {
    "url": (Annotated[str, _option("URL", "Address of the front door.")], DEFAULT_URL),
    "key": (Annotated[str | None, _option("KEY", "API key, if one is required.")], None),
    "user": (Annotated[str | None, _option("USER", "The user to act for.")], None),
}

SessionId = Annotated[str, typer.Argument(metavar="ID", help="The session's uuid.", show_default=False)]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON, for scripts.")]


@dataclass(frozen=True, slots=True)
class Remote:
    """A front door, and the credentials to call it with."""

    url: str
    key: str | None = field(repr=False)
    user: str | None

    def client(self) -> Client:
        from session_manager.client import Client  # noqa: PLC0415  not needed for --help

        return Client(self.url, self.key, self.user)


def _as_typed(value: Any) -> Any:
    if isinstance(value, list):
        return [_as_typed(each) for each in value]
    return typed(value) if isinstance(value, str) else value


def remote(command: Callable[Concatenate[Remote, P], None]) -> Callable[..., None]:
    """Add --url, --key and --user to a command, which receives them as its first argument."""

    @functools.wraps(command)
    def run(*, url: str, key: str | None, user: str | None, **options: object) -> None:
        from session_manager.client import ClientError  # noqa: PLC0415  not needed for --help

        front = Remote(*map(_as_typed, (url, key, user)))
        if front.user is not None:
            valid_user_id(front.user, "--user")
        try:
            command(front, **{name: _as_typed(value) for name, value in options.items()})  # type: ignore[call-arg]
        except ClientError as error:
            if error.status == 401 and not front.key:
                raise ClientError(NEEDS_KEY, 401) from None
            raise

    own = list(inspect.signature(command, eval_str=True).parameters.values())[1:]
    parameters = [each.replace(kind=inspect.Parameter.KEYWORD_ONLY) for each in own]
    for name, (annotation, default) in _OPTIONS.items():
        parameters.append(
            inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=annotation)
        )
    # Typer reads the options from the signature and the annotations.
    del run.__wrapped__
    run.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    run.__annotations__ = {each.name: each.annotation for each in parameters}
    return run
