"""The declaration of a setting, and the reading of a group of them from its variables."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, fields
from typing import Any, TypeVar

from pydantic import SecretStr

from session_manager.domain.errors import StartupFailure
from session_manager.settings.kinds import Kind

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Setting:
    """``variable`` is its name in the environment; ``meaning`` gives the unit and the reason for the default."""

    variable: str
    kind: Kind[Any]
    default: Any
    meaning: str

    def parse(self, value: object) -> Any:
        """Return the value that is written as this text. Other types are converted to text. Raises StartupFailure."""
        text = value.get_secret_value() if isinstance(value, SecretStr) else str(value)
        try:
            return self.kind.parse(text if self.kind.secret else text.strip())
        except ValueError:
            raise StartupFailure(self.kind.error(self.variable, text)) from None


def setting(variable: str, kind: Kind[T], default: T, meaning: str) -> T:
    """Declare a field of a group."""
    return field(default=default, metadata={"setting": Setting(variable, kind, default, meaning)})


def settings_of(group: Any) -> Iterator[tuple[str, Setting]]:
    """Yield the settings of a group, each with the name of its field."""
    return ((each.name, each.metadata["setting"]) for each in fields(group))


def read(group: type[T], values: Mapping[str, object]) -> T:
    """Build a group from values by variable. A setting without a value has its default. Raises StartupFailure."""
    given = {name: each.parse(values[each.variable]) for name, each in settings_of(group) if each.variable in values}
    return group(**given)
