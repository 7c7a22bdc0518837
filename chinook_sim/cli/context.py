"""What the command line says to all commands, and how commands report to people."""

from __future__ import annotations

import logging
import os
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from chinook_sim.cli.output import OutputFailed, to_json, wrap_lines, write_result
from chinook_sim.database.settings import find_database, scrub
from chinook_sim.errors import InvalidInput

if TYPE_CHECKING:
    from chinook_sim.database.settings import Location

__all__ = ["CliContext", "working_directory"]

logger = logging.getLogger(__name__)


@dataclass(slots=True)
class CliContext:
    """The options that all commands have, and the state that error messages depend on.

    Attributes:
        location: the database, once `find_database` has found it.
        dotenv_error: why `.env` could not be read. `--help` works all the same.
        lock_timeout: seconds; 0 waits forever.
        statement_timeout: seconds; None leaves the database's own.
        committed: whether everything that was requested is committed.
        interrupted: the message of an interruption.
        interrupted_commit: an interruption while a transaction was committed, which then was.
    """

    database_url: str | None = None
    names_file: str | None = None
    as_json: bool = False
    quiet: bool = False
    verbose: bool = False
    location: Location | None = None
    dotenv_error: InvalidInput | None = None
    lock_timeout: int = 30
    statement_timeout: int | None = None
    committed: bool = False
    interrupted: str = "interrupted; nothing was written"
    interrupted_commit: KeyboardInterrupt | None = None

    def find_database(self) -> Location:
        """Find the database that the options and the environment name."""
        self.location = find_database(
            os.environ,
            option=self.database_url,
            names_file=self.names_file,
            directory=working_directory(),
        )
        logger.info("database: %s (from %s)", self.location.shown, self.location.source)
        return self.location

    def say(self, line: str) -> None:
        """Write one line to standard error, unless --quiet is given."""
        if not self.quiet:
            self.warn(line)

    def warn(self, line: str) -> None:
        """Write one line to standard error, without secrets."""
        # Standard error may be closed or full. The command goes on without it.
        with suppress(OSError):
            click.echo(self.one_line(line), err=True)

    def one_line(self, text: str) -> str:
        """Return a text as one line, without secrets."""
        return scrub(" ".join(text.split()), self.location.secrets if self.location else ())

    def log_to_stderr(self) -> None:
        """Write the library's log records to standard error."""
        library = logging.getLogger("chinook_sim")
        library.handlers[:] = [StderrHandler(self)]
        library.setLevel(logging.DEBUG)

    def print(self, record: dict[str, Any], lines: list[str]) -> None:
        """Print a result: a record as JSON if --json is given, otherwise lines of text.

        Raises:
            OutputFailed: it could not be printed, and the command committed nothing.
        """
        if self.quiet and not self.as_json:
            return
        try:
            write_result(to_json(record) if self.as_json else "\n".join(wrap_lines(lines)))
        except OutputFailed as error:
            if not self.committed:
                raise
            self.warn(f"done, but {error}")


class StderrHandler(logging.Handler):
    """Writes log records to standard error, with their times since the start and the last one."""

    def __init__(self, settings: CliContext) -> None:
        super().__init__()
        self._settings = settings
        self._last = 0.0

    def emit(self, record: logging.LogRecord) -> None:
        """Write one record."""
        now = record.relativeCreated / 1_000
        self._settings.say(f"{now:.3f} s (+{now - self._last:.3f}): {record.getMessage()}")
        self._last = now


def working_directory() -> Path:
    """Return the working directory.

    Raises:
        InvalidInput: it was deleted, or cannot be read.
    """
    try:
        return Path.cwd()
    except OSError as error:
        raise InvalidInput(
            f"the working directory cannot be used: {error.strerror}; change to another one"
        ) from None
