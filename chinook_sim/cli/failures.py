"""Errors of a command: one line of text, an exit status, and JSON if requested."""

from __future__ import annotations

import os
import re
import sys
from typing import TYPE_CHECKING, NamedTuple

import click

from chinook_sim.cli.output import OutputFailed, to_json, write_result
from chinook_sim.errors import (
    LOCK_NOT_AVAILABLE,
    ChinookSimError,
    DatabaseUnavailable,
    InvalidInput,
)

if TYPE_CHECKING:
    from chinook_sim.cli.context import CliContext

__all__ = ["DONE", "WRONG_USAGE", "Failure", "failure_of", "print_failure", "report"]

DONE, WRONG_USAGE, UNREACHABLE, FAILED, INTERRUPTED = 0, 2, 3, 4, 130
"""Exit statuses; 1 is `verify`'s own."""

TEMPORARY = {LOCK_NOT_AVAILABLE, "53300", "57P01", "57P02", "57P03"}
"""SQLSTATEs of temporary errors: locks, too many connections, a server that restarts."""

TRUE = frozenset({"1", "true", "t", "yes", "y", "on"})
"""Values of a flag's variable that click reads as true."""


class Failure(NamedTuple):
    """What went wrong.

    Attributes:
        kind: the name of the error's class in snake_case; docs/reference/errors.md lists them.
        message: one line, without secrets.
        exit_status: the exit status of the process.
        sqlstate: PostgreSQL's error code, if there is one.
        retryable: whether the same command may succeed later, with nothing changed.
    """

    kind: str
    message: str
    exit_status: int
    sqlstate: str | None = None
    retryable: bool = False


def failure_of(error: BaseException, settings: CliContext) -> Failure:
    """Return the failure that an error is reported as."""
    if isinstance(error, KeyboardInterrupt | click.Abort):
        return Failure("interrupted", settings.one_line(settings.interrupted), INTERRUPTED)
    if isinstance(error, click.ClickException):
        context = error.ctx if isinstance(error, click.UsageError) else None
        said = error.format_message().rstrip(".")
        command = context.command_path if context else "chinook-sim"
        return Failure(
            "usage_error", settings.one_line(f"{said}; see `{command} --help`"), WRONG_USAGE
        )
    message = settings.one_line("; ".join([str(error), *getattr(error, "__notes__", ())]))
    if not isinstance(error, ChinookSimError):
        return Failure("unexpected", f"unexpected {type(error).__name__}: {message}", FAILED)
    status = FAILED
    if isinstance(error, InvalidInput):
        status = WRONG_USAGE
    elif isinstance(error, DatabaseUnavailable):
        status = UNREACHABLE
    return Failure(
        re.sub(r"(?<!^)(?=[A-Z])", "_", type(error).__name__).lower(),
        message,
        status,
        getattr(error, "sqlstate", None),
        _is_temporary(error),
    )


def _is_temporary(error: ChinookSimError) -> bool:
    sqlstate = getattr(error, "sqlstate", None)
    # SQLite has no SQLSTATEs.
    locked = "database is locked" in str(error)
    return getattr(error, "retryable", False) or sqlstate in TEMPORARY or locked


def report(settings: CliContext, failure: Failure) -> int:
    """Report a failure on standard error, and as JSON if requested; return the exit status."""
    settings.warn(f"Error: {failure.message}")
    print_failure(settings, failure)
    return failure.exit_status


def print_failure(settings: CliContext, failure: Failure) -> None:
    """Print a failure as a JSON object, if JSON is requested."""
    if not (settings.as_json or _json_requested()):
        return
    try:
        write_result(to_json({"error": failure._asdict()}))
    except OutputFailed:
        # The message on standard error and the exit status still report it.
        return


def _json_requested() -> bool:
    """Return whether JSON is requested on a command line that could not be parsed."""
    arguments = sys.argv[1:]
    options = arguments[: arguments.index("--")] if "--" in arguments else arguments
    return "--json" in options or os.environ.get("CHINOOK_SIM_JSON", "").lower() in TRUE
