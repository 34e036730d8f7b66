"""Reads one YAML file: plain data only, and no key twice, since YAML's readers drop the first without a word."""

from __future__ import annotations

from pathlib import Path

import yaml

from session_manager.domain.errors import StartupFailure


class _Loader(yaml.SafeLoader):
    """Refuses what would be dropped silently."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[object, object]:
        seen = set()
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode):
                raise yaml.constructor.ConstructorError(None, None, "a name is a word", key.start_mark)
            if key.value in seen:
                raise yaml.constructor.ConstructorError(None, None, f"{key.value} stands twice", key.start_mark)
            seen.add(key.value)
        return super().construct_mapping(node, deep)


def read_yaml(file: Path) -> object:
    """StartupFailure, naming the file and where possible the line."""
    try:
        with file.open(encoding="utf-8") as stream:
            return yaml.load(stream, _Loader)  # noqa: S506 - a SafeLoader
    except OSError as error:
        raise StartupFailure(f"{file}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise StartupFailure(f"{file}: not UTF-8") from None
    except yaml.MarkedYAMLError as error:
        line = f"line {error.problem_mark.line + 1}: " if error.problem_mark else ""
        raise StartupFailure(f"{file}: {line}{error.problem}") from None
    except yaml.YAMLError as error:
        raise StartupFailure(f"{file}: {str(error).splitlines()[0]}") from None
