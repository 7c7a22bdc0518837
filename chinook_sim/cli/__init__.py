"""The command: parse, open one transaction, call the library once, print.

Only this package prints, reads standard input, and ends the process. Results go to standard
output, everything else to standard error. Whatever takes long to import is imported by the command
that needs it, so that `--help` answers at once.
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
    """Make the Chinook music shop live: yesterday's sales, in one transaction.

    The database is the first of: --database-url, CHINOOK_SIM_DATABASE_URL, DATABASE_URL, libpq's
    PGHOST or PGSERVICE, NEON_PROJECT_ID, and else chinook.db, a SQLite file made on first use. A
    file .env in the working directory is read; the environment wins over it.

    Exit status: 0 done; 1 a check found something wrong; 2 wrong usage or input; 3 the database
    could not be reached or refused; 4 the batch failed and was rolled back, or the result could
    not be printed; 130 interrupted and rolled back. With --json an error is a JSON object.
    """


for command in (generate, init, verify, align, backfill, live, undo, status, profile):
    cli.add_command(command)


def main() -> NoReturn:
    """Run the command, and end the process with its exit status."""
    # A terminated job shall cancel its statement and its transaction, like an interrupted one.
    for number in (signal.SIGINT, signal.SIGTERM):
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, signal.default_int_handler)
    sys.unraisablehook = interrupt_again
    # Their warnings, of a connection that is given up, are reported in our own words.
    for name in ("psycopg", "sqlalchemy"):
        logging.getLogger(name).addHandler(logging.NullHandler())
    if sys.stdout is None:
        # It is closed. click would print a help text to nowhere; this one fails when it is written
        # to, and keeps its number from a database file.
        sys.stdout = os.fdopen(os.open(os.devnull, os.O_RDONLY), "w")
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            # A character that a terminal has not must not fail what is committed.
            stream.reconfigure(errors="backslashreplace")
    settings = CliContext()
    try:
        with interruptible():
            try:
                load_dotenv(working_directory())
            except InvalidInput as error:
                settings.unreadable = error
            code = cli.main(obj=settings, standalone_mode=False) or DONE
    except click.exceptions.NoArgsIsHelpError as error:
        # Nothing is wrong with what was given; there is only no command in it.
        with suppress(OSError):
            click.echo(error.format_message(), err=True)
        code = WRONG_USAGE
        print_failure(settings, Failure("usage_error", "no command is given", WRONG_USAGE))
    except SystemExit:
        # Only where the reader of a help text has left, or for shell completion. click's status for
        # the first is 1, which means a failed check here.
        code = DONE
    except (Exception, KeyboardInterrupt) as error:
        if isinstance(error, OSError) and settings.location is None and error.filename is None:
            # Of a help text, which click prints; an error of a file names it.
            discard_output()
            error = OutputFailed(f"the text could not be printed: {error.strerror}")
        if settings.done and isinstance(error, KeyboardInterrupt | click.Abort):
            settings.warn("interrupted when all was done, and committed")
            code = DONE
        else:
            code = report(settings, failure_of(error, settings))
    # The exit status is settled: a signal while Python takes itself down must not change it.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    finish_output()
    # With `python -m`, a KeyboardInterrupt that came while a string was executed, as dataclasses do
    # when they are made, would end the process by SIGINT, also where it was handled. The next
    # string that is executed resets that.
    exec("")  # noqa: S102
    sys.exit(code)


def interrupt_again(ignored: UnraisableHookArgs) -> None:
    """Interrupt the command soon where an interruption was lost in a destructor."""
    if issubclass(ignored.exc_type, KeyboardInterrupt):
        # Not from here, where it would be lost as well.
        threading.Timer(0.01, signal.raise_signal, [signal.SIGINT]).start()


def finish_output() -> None:
    """Write what is left in the buffer; if it cannot be written, let it not change the status."""
    try:
        sys.stdout.flush()
    except OSError:
        discard_output()
