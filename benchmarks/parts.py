"""``--only``: which parts of a benchmark run."""

from __future__ import annotations

import argparse
from collections.abc import Collection


def arguments(parser: argparse.ArgumentParser, parts: Collection[str]) -> argparse.Namespace:
    """What was given, with ``only`` as a list of parts and ``json``. Ends the program where there is no such part."""
    parser.add_argument("--only", default=",".join(parts), help=f"some of {','.join(parts)}")
    parser.add_argument("--json", action="store_true", help="print the figures as JSON")
    given = parser.parse_args()
    given.only = [part.strip() for part in given.only.split(",")]
    if unknown := set(given.only) - set(parts):
        parser.error(f"--only: there is no {', '.join(sorted(unknown))}; there are {', '.join(parts)}")
    return given
