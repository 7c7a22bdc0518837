"""What all commands share: their options, how they read what is given, and how they speak."""

from __future__ import annotations

import logging
import os
import re
from contextlib import suppress
from dataclasses import dataclass
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from chinook_sim.cli.output import OutputFailed, deliver, fitted, to_json
from chinook_sim.database.settings import find_database, scrub
from chinook_sim.errors import InvalidInput

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import date

    from chinook_sim.database.settings import Location

__all__ = [
    "Common",
    "common",
    "day_option",
    "limited",
    "option",
    "profile_option",
    "read_day",
    "read_number",
    "read_timezone",
    "timezone_option",
    "working_directory",
]

logger = logging.getLogger(__name__)

DAY = 86_400
"""The longest timeout, in seconds."""


@dataclass(slots=True)
class Common:
    """What every command is told, and what an error message must know."""

    database_url: str | None = None
    as_json: bool = False
    quiet: bool = False
    verbose: bool = False
    location: Location | None = None
    unreadable: InvalidInput | None = None
    """Why `.env` could not be read, which `--help` does not need."""
    lock_timeout: int = 30
    statement_timeout: int | None = None
    done: bool = False
    """Whether what the command was asked for is committed."""
    interrupted: str = "interrupted; nothing was written"
    """What to say of an interruption."""

    def find(self) -> Location:
        """Find the database that is meant."""
        self.location = find_database(
            os.environ, option=self.database_url, directory=working_directory()
        )
        logger.info("database: %s (from %s)", self.location.shown, self.location.source)
        return self.location

    def say(self, line: str) -> None:
        """Tell a person what is going on."""
        if not self.quiet:
            self.warn(line)

    def warn(self, line: str) -> None:
        """Write one line to standard error, without any secret."""
        # Nobody may be there to read it, which is no reason to fail.
        with suppress(OSError):
            click.echo(self.clean(line), err=True)

    def clean(self, text: str) -> str:
        """Return a text as one line, without any secret."""
        return scrub(" ".join(text.split()), self.location.secrets if self.location else ())

    def follow(self) -> None:
        """Let what the library logs be told, with the seconds since the start and the last line."""
        followed = logging.getLogger("chinook_sim")
        followed.handlers[:] = [Follower(self)]
        followed.setLevel(logging.DEBUG)

    def print(self, record: dict[str, Any], lines: list[str]) -> None:
        """Print a result, for machines or for people.

        Raises:
            OutputFailed: it could not be printed, and the command did nothing else.
        """
        if self.quiet and not self.as_json:
            return
        try:
            deliver(to_json(record) if self.as_json else "\n".join(fitted(lines)))
        except OutputFailed as error:
            if not self.done:
                raise
            self.warn(f"done, but {error}")


class Follower(logging.Handler):
    """Tells a person what is logged, and when."""

    def __init__(self, settings: Common) -> None:
        super().__init__()
        self._settings = settings
        self._last = 0.0

    def emit(self, record: logging.LogRecord) -> None:
        """Tell it."""
        now = record.relativeCreated / 1_000
        self._settings.say(f"{now:.3f} s (+{now - self._last:.3f}): {record.getMessage()}")
        self._last = now


def option(name: str, *names: str, **attributes: Any) -> Callable[[Any], Any]:
    """Declare an option together with its environment variable."""
    variable = "CHINOOK_SIM_" + name.lstrip("-").replace("-", "_").upper()
    return click.option(name, *names, envvar=variable, show_envvar=True, **attributes)


def common(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command the options that all have; they may stand before its name as well."""

    @option(
        "--database-url",
        metavar="URL",
        help="Database URL, PostgreSQL or SQLite. [default: see README]",
    )
    @option("--json", "as_json", is_flag=True, help="Print one line of JSON.")
    @option("--quiet", "-q", is_flag=True, help="Print only errors, warnings, and requested JSON.")
    @option("--verbose", "-v", is_flag=True, help="Print steps and their times on standard error.")
    @click.pass_context
    @wraps(command)
    def with_common(context: click.Context, /, **options: Any) -> None:
        settings = context.ensure_object(Common)
        for name in ("database_url", "as_json", "quiet", "verbose"):
            setattr(settings, name, options.pop(name) or getattr(settings, name))
        if settings.verbose:
            settings.follow()
        if settings.unreadable and not isinstance(context.command, click.Group):
            raise settings.unreadable
        command(settings, **options)

    decorated: Callable[..., None] = with_common
    return decorated


day_option = option("--day", metavar="YYYY-MM-DD", help="Day of the sales. [default: D-1]")
profile_option = option(
    "--profile",
    metavar="NAME",
    default="uniform",
    help="Profile of the sales: a name or a TOML file.",
)
timezone_option = option(
    "--timezone", metavar="ZONE", help="Time zone that D-1 is taken from, such as Europe/Paris."
)


def limited(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command that writes the options that keep it from waiting for ever."""

    @option(
        "--lock-timeout",
        metavar="SECONDS",
        default="30",
        help="Lock timeout in seconds (0 waits forever). [default: 30]",
    )
    @option(
        "--statement-timeout",
        metavar="SECONDS",
        help="Statement timeout in seconds (0 disables it).",
    )
    @wraps(command)
    def with_limits(
        settings: Common, lock_timeout: str, statement_timeout: str | None, **options: Any
    ) -> None:
        settings.lock_timeout = read_number("the lock timeout", lock_timeout, DAY)
        if statement_timeout is not None:
            settings.statement_timeout = read_number(
                "the statement timeout", statement_timeout, DAY
            )
        command(settings, **options)

    decorated: Callable[..., None] = with_limits
    return decorated


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


def read_number(what: str, given: str, most: int, *, least: int = 0) -> int:
    """Read a whole number; only ASCII digits will do, which int() alone does not ask for."""
    if re.fullmatch("[0-9]{1,20}", given) and least <= int(given) <= most:
        return int(given)
    if not given:
        raise InvalidInput(f"{what} is missing; give an integer between {least} and {most}")
    raise InvalidInput(f"{what} must be an integer between {least} and {most}, got {given[:40]!r}")


def read_day(given: str | None) -> date | None:
    """Read the day, if one was given."""
    from chinook_sim.dates import parse_day

    return None if given is None else parse_day(given)


def read_timezone(given: str | None) -> str | None:
    """Read the name of a time zone, if one was given."""
    from chinook_sim.dates import check_timezone

    return None if given is None else check_timezone(given)
