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
    "Command",
    "Common",
    "Option",
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


class Option(click.Option):
    """An option that its command's help shows under a heading."""

    def __init__(self, *arguments: Any, heading: str = "Options", **attributes: Any) -> None:
        super().__init__(*arguments, **{"show_default": True, **attributes})
        self.heading = heading


class Command(click.Command):
    """A command whose help groups its options, and explains their environment variables once.

    cloup and rich-click do this, too, and make `--help` take 1.7 and 1.3 times as long.
    """

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the options, those of one heading together."""
        groups: dict[str, list[tuple[str, str]]] = {}
        for parameter in self.get_params(ctx):
            row = parameter.get_help_record(ctx)
            if row is not None and isinstance(parameter, click.Option):
                heading = getattr(parameter, "heading", "Options")
                groups.setdefault(heading, []).append(row)
        width = min(max(len(term) for rows in groups.values() for term, _ in rows), 30)
        for heading, rows in groups.items():
            with formatter.section(heading):
                formatter.write_dl([(term.ljust(width), text) for term, text in rows])

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Explain the environment variables, and name the options that have none."""
        options = [it for it in self.get_params(ctx) if isinstance(it, Option)]
        without = [it.opts[0] for it in options if it.envvar is None]
        but = f" except {', '.join(without)}" if without else ""
        formatter.write_paragraph()
        formatter.write_text(
            f"Each option{but} can be set by an environment variable, such as --database-url by "
            "CHINOOK_SIM_DATABASE_URL."
        )


def option(name: str, *names: str, **attributes: Any) -> Callable[[Any], Any]:
    """Declare an option together with its environment variable."""
    variable = "CHINOOK_SIM_" + name.lstrip("-").replace("-", "_").upper()
    return click.option(name, *names, cls=Option, envvar=variable, **attributes)


def common(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command the options that all have; they may stand before its name as well."""

    @option(
        "--database-url",
        heading="Database",
        metavar="URL",
        help="URL of the database, PostgreSQL or SQLite.",
    )
    @option(
        "--json",
        "as_json",
        heading="Output",
        is_flag=True,
        help="Print one line of JSON.",
    )
    @option(
        "--quiet",
        "-q",
        heading="Output",
        is_flag=True,
        help="Print only errors, warnings, requested JSON.",
    )
    @option(
        "--verbose",
        "-v",
        heading="Output",
        is_flag=True,
        help="Print steps and their times on standard error.",
    )
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
    help="Profile name or TOML file.",
)
timezone_option = option(
    "--timezone", metavar="ZONE", help="Time zone of the shop, such as Europe/Paris."
)


def limited(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command that writes the options that keep it from waiting for ever."""

    @option(
        "--lock-timeout",
        heading="Database",
        metavar="SECONDS",
        default="30",
        help="Lock timeout (0 waits forever).",
    )
    @option(
        "--statement-timeout",
        heading="Database",
        metavar="SECONDS",
        help="Statement timeout (0 disables it).",
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
