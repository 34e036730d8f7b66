"""The packages that only some installations need, each group an extra of ``pyproject.toml``."""


def needs_extra(what: str, extra: str) -> str:
    """Return the sentence that says which extra ``what`` lacks, and how to install it. It names no package on PyPI,
    because Session Manager is installed from its folder.
    """
    return f"{what} needs the extra {extra}: install Session Manager with it, pip install '.[{extra}]' in its folder"
