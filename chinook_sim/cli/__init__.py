"""The command line: parse, open one transaction, call the library once, print.

Only this package prints, reads standard input and ends the process. Results go to standard output,
everything else to standard error. Modules that take long to import are imported in the functions
that need them, so that `--help` is fast.
"""

from __future__ import annotations

import logging
import os
import signal
import sys
import threading
from contextlib import suppress
from io import TextIOWrapper
from typing import TYPE_CHECKING, NoReturn

import click

from chinook_sim.cli.align import align
from chinook_sim.cli.backfill import backfill
from chinook_sim.cli.context import CliContext, working_directory
from chinook_sim.cli.failures import DONE, WRONG_USAGE, Failure, failure_of, print_failure, report
from chinook_sim.cli.generate import generate
from chinook_sim.cli.init import init
from chinook_sim.cli.live import live
from chinook_sim.cli.options import common_options
from chinook_sim.cli.output import OutputFailed, discard_output
from chinook_sim.cli.profile import profile
from chinook_sim.cli.status import status
from chinook_sim.cli.undo import undo
from chinook_sim.cli.verify import verify
from chinook_sim.database.dotenv import load_dotenv
from chinook_sim.database.interrupts import interruptible
from chinook_sim.errors import InvalidInput

if TYPE_CHECKING:
    from sys import UnraisableHookArgs

__all__ = ["cli", "main"]


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="chinook-sim")
@common_options
def cli(_: CliContext) -> None:
    """Add simulated sales to a Chinook database: yesterday's, a range of days, or a live stream.

    The database is the first that is set of: --database-url, CHINOOK_SIM_DATABASE_URL,
    DATABASE_URL, libpq's PGHOST, PGHOSTADDR, PGPORT, PGSERVICE or PGDATABASE, NEON_PROJECT_ID. The
    default is chinook.db, a SQLite file that is made on first use. A file .env in the working
    directory is read too; it does not override the environment.

    Exit status: 0 done; 1 a check failed; 2 wrong usage or input; 3 the database could not be
    reached, or refused the request; 4 the batch failed and was rolled back, or the result could
    not be printed; 130 interrupted and rolled back. With --json, an error is a JSON object.
    """


for command in (generate, init, verify, align, backfill, live, undo, status, profile):
    cli.add_command(command)


def main() -> NoReturn:
    """Run the command and exit with its status."""
    # SIGTERM cancels the statement and rolls the transaction back, as SIGINT does.
    for number in (signal.SIGINT, signal.SIGTERM):
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, signal.default_int_handler)
    sys.unraisablehook = interrupt_again
    # They warn about connections that are given up. The command reports those itself.
    for name in ("psycopg", "sqlalchemy"):
        logging.getLogger(name).addHandler(logging.NullHandler())
    if sys.stdout is None:
        # It is closed. click would print a help text to nowhere, and a database file could get its
        # file descriptor. Writing to this one fails.
        sys.stdout = os.fdopen(os.open(os.devnull, os.O_RDONLY), "w")
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            # A character that the encoding lacks must not be an error after a commit.
            stream.reconfigure(errors="backslashreplace")
    settings = CliContext()
    try:
        with interruptible():
            try:
                load_dotenv(working_directory())
            except InvalidInput as error:
                settings.dotenv_error = error
            code = cli.main(obj=settings, standalone_mode=False) or DONE
    except click.exceptions.NoArgsIsHelpError as error:
        # The command line has no command, and nothing wrong in it.
        with suppress(OSError):
            click.echo(error.format_message(), err=True)
        code = WRONG_USAGE
        print_failure(settings, Failure("usage_error", "no command is given", WRONG_USAGE))
    except SystemExit:
        # Raised only for shell completion, and if the reader of a help text has closed the pipe.
        # click's status for the second is 1, which means a failed check here.
        code = DONE
    except (Exception, KeyboardInterrupt) as error:
        if isinstance(error, OSError) and settings.location is None and error.filename is None:
            # click could not print a help text. An error about a file has a file name.
            discard_output()
            error = OutputFailed(f"the text could not be printed: {error.strerror}")
        if settings.committed and isinstance(error, KeyboardInterrupt | click.Abort):
            settings.warn("interrupted after everything was committed")
            code = DONE
        else:
            code = report(settings, failure_of(error, settings))
    # A signal while Python shuts down must not change the exit status.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    finish_output()
    # `python -m` ends the process by SIGINT if a KeyboardInterrupt was raised while a string was
    # executed, as when a dataclass is defined, even if it was handled. Executing another string
    # resets that.
    exec("")  # noqa: S102
    sys.exit(code)


def interrupt_again(ignored: UnraisableHookArgs) -> None:
    """Interrupt the command again if a destructor has lost an interruption."""
    if issubclass(ignored.exc_type, KeyboardInterrupt):
        # Raised here, it would be lost as well.
        threading.Timer(0.01, signal.raise_signal, [signal.SIGINT]).start()


def finish_output() -> None:
    """Flush standard output. An error does not change the exit status."""
    try:
        sys.stdout.flush()
    except OSError:
        discard_output()
