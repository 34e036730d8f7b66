"""``--only``: run some parts of a benchmark."""

from __future__ import annotations

import argparse
from collections.abc import Collection


def arguments(parser: argparse.ArgumentParser, parts: Collection[str]) -> argparse.Namespace:
    """Return the arguments, with ``only`` as a list of parts and ``json``. Ends the program if a part is unknown."""
    parser.add_argument("--only", default=",".join(parts), help=f"some of {','.join(parts)}")
    parser.add_argument("--json", action="store_true", help="print the figures as JSON")
    given = parser.parse_args()
    given.only = [part.strip() for part in given.only.split(",")]
    if unknown := set(given.only) - set(parts):
        parser.error(f"--only: unknown part {', '.join(sorted(unknown))}; known parts: {', '.join(parts)}")
    return given
