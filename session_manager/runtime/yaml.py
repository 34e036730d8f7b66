"""Reads one YAML file: plain data, without repeated keys, of which a YAML loader silently drops all but the last."""

from __future__ import annotations

from pathlib import Path

import yaml

from session_manager.domain.errors import StartupFailure


class _Loader(yaml.SafeLoader):
    """Rejects repeated keys, and keys that are not plain text."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[object, object]:
        seen = set()
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode):
                raise yaml.constructor.ConstructorError(None, None, "invalid key; expected plain text", key.start_mark)
            if key.value in seen:
                raise yaml.constructor.ConstructorError(None, None, f"key {key.value} is repeated", key.start_mark)
            seen.add(key.value)
        return super().construct_mapping(node, deep)


def read_yaml(file: Path) -> object:
    """Return the content of a file. Raises StartupFailure with the file and, if known, the line."""
    try:
        with file.open(encoding="utf-8") as stream:
            return yaml.load(stream, _Loader)  # noqa: S506  a SafeLoader
    except OSError as error:
        raise StartupFailure(f"{file}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise StartupFailure(f"{file}: invalid encoding; expected UTF-8") from None
    except yaml.MarkedYAMLError as error:
        line = f"line {error.problem_mark.line + 1}: " if error.problem_mark else ""
        raise StartupFailure(f"{file}: {line}{error.problem}") from None
    except yaml.YAMLError as error:
        raise StartupFailure(f"{file}: {str(error).splitlines()[0]}") from None
