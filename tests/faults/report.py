"""The figures of a fault, as a table on the terminal."""

from __future__ import annotations


def show(name: str, figures: dict[str, str]) -> None:
    width = max(map(len, figures))
    print(f"\n\n{name}\n{'─' * (width + 30)}")
    for figure, value in figures.items():
        print(f"{figure:<{width}}  {value}")
