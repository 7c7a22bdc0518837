"""The options that commands share, and how help shows options."""

from __future__ import annotations

from functools import wraps
from typing import TYPE_CHECKING, Any

import click

from chinook_sim.cli.context import CliContext
from chinook_sim.cli.param_types import Day, Integer, ProfileFile, TimeZone
from chinook_sim.errors import InvalidInput

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = [
    "Command",
    "Option",
    "common_options",
    "day_option",
    "option",
    "profile_option",
    "timeout_options",
    "timezone_option",
]

LONGEST_TIMEOUT = 86_400
"""A day, in seconds."""


class Option(click.Option):
    """An option that the help of its command shows under a heading."""

    def __init__(self, *arguments: Any, heading: str = "Options", **attributes: Any) -> None:
        super().__init__(*arguments, **{"show_default": True, **attributes})
        self.heading = heading


class Command(click.Command):
    """A command whose help groups its options, and explains environment variables once.

    cloup and rich-click can do this too, but `--help` then takes 1.7 and 1.3 times as long.
    """

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Parse the command line; if it fails and `.env` is unreadable, report `.env` first."""
        try:
            return super().parse_args(ctx, args)
        except InvalidInput:
            settings = ctx.find_object(CliContext)
            if settings is not None and settings.dotenv_error is not None:
                raise settings.dotenv_error from None
            raise
        except click.UsageError as error:
            # The parser of options does not know the command whose help the message names.
            error.ctx = error.ctx or ctx
            raise

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the options, grouped by heading."""
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
        """Explain the environment variables, and name the options without one."""
        options = [it for it in self.get_params(ctx) if isinstance(it, Option)]
        without = [it.opts[0] for it in options if it.envvar is None]
        # "--key, --day and --backfill"
        named = " and ".join(filter(None, [", ".join(without[:-1]), *without[-1:]]))
        but = f" except {named}" if named else ""
        formatter.write_paragraph()
        formatter.write_text(
            f"Each option{but} can be set by an environment variable, such as --database-url by "
            "CHINOOK_SIM_DATABASE_URL."
        )


def option(name: str, *names: str, **attributes: Any) -> Callable[[Any], Any]:
    """Declare an option and its environment variable."""
    variable = "CHINOOK_SIM_" + name.lstrip("-").replace("-", "_").upper()
    return click.option(name, *names, cls=Option, envvar=variable, **attributes)


def common_options(command: Callable[..., None]) -> Callable[..., None]:
    """Add the options that all commands have. They may also come before the command's name."""

    @option(
        "--database-url",
        heading="Database",
        metavar="URL",
        help="URL of the database, PostgreSQL or SQLite.",
    )
    @option(
        "--map",
        "names_file",
        heading="Database",
        metavar="FILE",
        help="TOML file with names of tables and columns.",
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
        help="Print only errors, warnings and JSON.",
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
        settings = context.ensure_object(CliContext)
        for name in ("database_url", "names_file", "as_json", "quiet", "verbose"):
            setattr(settings, name, options.pop(name) or getattr(settings, name))
        if settings.verbose:
            settings.log_to_stderr()
        if settings.dotenv_error and not isinstance(context.command, click.Group):
            raise settings.dotenv_error
        command(settings, **options)

    decorated: Callable[..., None] = with_common
    return decorated


day_option = option(
    "--day", type=Day(), metavar="YYYY-MM-DD", help="Day of the sales. [default: D-1]"
)
profile_option = option(
    "--profile",
    type=ProfileFile(),
    metavar="NAME",
    default="uniform",
    help="Profile name or TOML file.",
)
timezone_option = option(
    "--timezone",
    type=TimeZone(),
    metavar="ZONE",
    help="Time zone of the clock, such as Europe/Paris.",
)


def timeout_options(command: Callable[..., None]) -> Callable[..., None]:
    """Add the options that limit how long a command that writes can wait."""

    @option(
        "--lock-timeout",
        heading="Database",
        type=Integer("the lock timeout", LONGEST_TIMEOUT),
        metavar="SECONDS",
        default=30,
        help="Lock timeout (0 waits forever).",
    )
    @option(
        "--statement-timeout",
        heading="Database",
        type=Integer("the statement timeout", LONGEST_TIMEOUT),
        metavar="SECONDS",
        help="Statement timeout (0 disables it).",
    )
    @wraps(command)
    def with_timeouts(
        settings: CliContext, lock_timeout: int, statement_timeout: int | None, **options: Any
    ) -> None:
        settings.lock_timeout = lock_timeout
        settings.statement_timeout = statement_timeout
        command(settings, **options)

    decorated: Callable[..., None] = with_timeouts
    return decorated
