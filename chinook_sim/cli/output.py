"""Results and progress, as text for people or as JSON."""

from __future__ import annotations

import json
import math
import os
import re
import shutil
import sys
import textwrap
import time
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any

import click

from chinook_sim.errors import ChinookSimError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from chinook_sim.cli.context import CliContext

__all__ = [
    "OutputFailed",
    "StatusLine",
    "bar",
    "counted",
    "discard_output",
    "progress_bar",
    "sparkline",
    "table",
    "to_json",
    "wrap_lines",
    "write_result",
]

BAR = 40
"""Length of the longest bar, in characters."""

MIN_WRAP_WIDTH = 20
"""Characters that a column must have so that its text is wrapped inside it."""

TERMINAL_INTERVAL, LOG_INTERVAL = 1.0, 10.0
"""Seconds between two status lines, on a terminal and elsewhere."""


class OutputFailed(ChinookSimError):
    """A result could not be written to standard output."""


def to_json(record: dict[str, Any]) -> str:
    """Return a record as one line of JSON, in ASCII, which is valid in any output encoding."""
    return json.dumps(record)


def write_result(text: str) -> None:
    """Write a result to standard output.

    If the reader has closed the pipe, as `| head -1` does, that is no error.

    Raises:
        OutputFailed: it could not be written.
    """
    try:
        click.echo(text)
    except BrokenPipeError:
        discard_output()
    except OSError as error:
        discard_output()
        raise OutputFailed(f"the result could not be printed: {error.strerror}") from None


def discard_output() -> None:
    """Redirect standard output to nowhere, including what is in its buffer.

    Otherwise Python would flush the buffer at exit, fail again and change the exit status.
    """
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


@contextmanager
def progress_bar(settings: CliContext, unit: str, length: int) -> Iterator[Callable[[int], None]]:
    """Show a progress bar, on a terminal only. Length 0 shows none."""
    if settings.verbose or settings.quiet:
        length = 0
    if not length or sys.stderr is None or not sys.stderr.isatty():
        yield lambda _: None
        return
    with click.progressbar(length=length, label=unit, file=sys.stderr) as bar:
        yield bar.update


class StatusLine:
    """A status line. On a terminal it is overwritten; elsewhere each one is a new line.

    Messages go through `say`, so that they are not printed into the middle of it.
    """

    def __init__(self, settings: CliContext) -> None:
        self._settings = settings
        # Log records would be printed into the middle of it.
        terminal = sys.stderr is not None and sys.stderr.isatty()
        self._terminal = terminal and not settings.verbose
        self._shown = time.monotonic()
        self._width = 0

    def due(self) -> float | None:
        """Return the seconds since it was last shown, if it is time to show it again."""
        passed = time.monotonic() - self._shown
        return passed if passed >= (TERMINAL_INTERVAL if self._terminal else LOG_INTERVAL) else None

    def show(self, line: str) -> None:
        """Show a new text."""
        self._shown = time.monotonic()
        if self._settings.quiet:
            return
        if not self._terminal:
            self._settings.say(line)
            return
        # A longer line would wrap, and its first part could not be overwritten.
        columns = os.get_terminal_size(sys.stderr.fileno()).columns or 80
        line = line[: columns - 1]
        with suppress(OSError):
            click.echo("\r" + line.ljust(self._width), nl=False, err=True)
        self._width = len(line)

    def end(self) -> None:
        """End the line, so that another can follow."""
        if self._width:
            with suppress(OSError):
                click.echo(err=True)
            self._width = 0

    def say(self, line: str) -> None:
        """Write a message on a line of its own."""
        self.end()
        self._settings.say(line)


def wrap_lines(lines: Iterable[str]) -> list[str]:
    """Wrap lines that are wider than the terminal, between words.

    The rest of a line is indented to its last column that is wide enough. If the output is no
    terminal, lines are not changed.
    """
    if not sys.stdout.isatty():
        return list(lines)
    width = shutil.get_terminal_size().columns
    return [part for line in lines for part in _wrap_line(line, width)]


def _wrap_line(line: str, width: int) -> list[str]:
    if len(line) <= width:
        return [line]
    columns = [gap.end() for gap in re.finditer("  +(?=[^ ])", line)]
    indent = max((start for start in columns if start <= width - MIN_WRAP_WIDTH), default=0)
    return textwrap.wrap(
        line,
        width,
        subsequent_indent=" " * indent,
        expand_tabs=False,
        replace_whitespace=False,
        break_long_words=False,
        break_on_hyphens=False,
    )


def counted(number: int, noun: str) -> str:
    """Return a number with its noun: "1 sale", "2 sales"."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def table(record: dict[str, Any]) -> list[str]:
    """Format names and values as two columns."""
    names = {name: name.replace("_", " ").replace("d1", "D-1") for name in record}
    width = max(map(len, names.values()))
    return [
        f"  {names[name]:{width}}  {'-' if value is None else value}"
        for name, value in record.items()
    ]


def sparkline(hours: Sequence[float]) -> str:
    """Draw the sales of each hour as a row of bars, one character each."""
    bars = if_encodable(" ▁▂▃▄▅▆▇█", " .:-=+*#@")
    most = max(hours, default=0) or 1
    # Rounded up, so that a single sale is visible.
    return "".join(bars[math.ceil(count / most * (len(bars) - 1))] for count in hours)


def bar(part: float) -> str:
    """Draw a fraction, 0 to 1, as one bar."""
    return if_encodable("█", "#") * math.ceil(part * BAR)


def if_encodable(characters: str, instead: str) -> str:
    """Return the characters if the encoding of the output has them, otherwise a substitute."""
    try:
        characters.encode(getattr(sys.stdout, "encoding", None) or "ascii")
    except UnicodeEncodeError:
        return instead
    return characters
