"""How results and progress look to a person."""

from __future__ import annotations

import math
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from chinook_sim.cli.common import Common

__all__ = ["bar", "picture", "progress_bar", "table"]

BAR = 40
"""Characters of the longest bar."""


@contextmanager
def progress_bar(settings: Common, unit: str, length: int) -> Iterator[Callable[..., None]]:
    """Show how far long work is, on a terminal only; length 0 is work too short for it.

    Yields:
        What to call with the steps that were made, and with what to show beside the bar, if
        anything.
    """
    if not length or settings.quiet or not sys.stderr.isatty():
        yield lambda *_: None
        return
    with click.progressbar(
        length=length, label=unit, file=sys.stderr, item_show_func=lambda shown: shown
    ) as bar:
        yield bar.update


def table(record: dict[str, Any]) -> list[str]:
    """Lay out names and values in two columns."""
    names = {name: name.replace("_", " ").replace("d1", "D-1") for name in record}
    width = max(map(len, names.values()))
    return [
        f"  {names[name]:{width}}  {'-' if value is None else value}"
        for name, value in record.items()
    ]


def picture(hours: Sequence[float]) -> str:
    """Draw the sales of each hour as a row of bars."""
    bars = drawable(" ▁▂▃▄▅▆▇█", " .:-=+*#@")
    most = max(hours, default=0) or 1
    # Any sale at all shows.
    return "".join(bars[math.ceil(count / most * (len(bars) - 1))] for count in hours)


def bar(part: float) -> str:
    """Draw a part of the whole, 0 to 1, as one bar."""
    return drawable("█", "#") * math.ceil(part * BAR)


def drawable(characters: str, instead: str) -> str:
    """Return the characters if the terminal has them."""
    try:
        characters.encode(getattr(sys.stdout, "encoding", None) or "ascii")
    except UnicodeEncodeError:
        return instead
    return characters
