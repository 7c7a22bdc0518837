"""How results and progress look to a person."""

from __future__ import annotations

import math
import os
import sys
import time
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from chinook_sim.cli.common import Common

__all__ = ["StatusLine", "bar", "picture", "progress_bar", "table"]

BAR = 40
"""Characters of the longest bar."""

SHOWN, LOGGED = 1.0, 10.0
"""Seconds between one status line and the next, on a terminal and elsewhere."""


@contextmanager
def progress_bar(settings: Common, unit: str, length: int) -> Iterator[Callable[[int], None]]:
    """Show how far long work is, on a terminal only; length 0 is work too short for it."""
    if not length or settings.quiet or sys.stderr is None or not sys.stderr.isatty():
        yield lambda _: None
        return
    with click.progressbar(length=length, label=unit, file=sys.stderr) as bar:
        yield bar.update


class StatusLine:
    """A line that tells how it goes: the same line again and again on a terminal, else a new one.

    Messages go through `say`, so that they do not come in the middle of it.
    """

    def __init__(self, settings: Common) -> None:
        self._settings = settings
        self._terminal = sys.stderr is not None and sys.stderr.isatty()
        self._shown = time.monotonic()
        self._width = 0

    def due(self) -> float | None:
        """Return the seconds since it was shown last, if it is time to show it again."""
        passed = time.monotonic() - self._shown
        return passed if passed >= (SHOWN if self._terminal else LOGGED) else None

    def show(self, line: str) -> None:
        """Show it."""
        self._shown = time.monotonic()
        if self._settings.quiet:
            return
        if not self._terminal:
            self._settings.say(line)
            return
        # A line that is too long would go on in the next, and stay there.
        columns = os.get_terminal_size(sys.stderr.fileno()).columns or 80
        line = line[: columns - 1]
        with suppress(OSError):
            click.echo("\r" + line.ljust(self._width), nl=False, err=True)
        self._width = len(line)

    def end(self) -> None:
        """Leave the line, so that another can follow."""
        if self._width:
            with suppress(OSError):
                click.echo(err=True)
            self._width = 0

    def say(self, line: str) -> None:
        """Tell a person something, on a line of its own."""
        self.end()
        self._settings.say(line)


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
