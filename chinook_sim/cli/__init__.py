"""The command: parse, open one transaction, call the library once, print.

Only this package prints, reads standard input, and ends the process. Results go to standard
output, everything else to standard error. Whatever takes long to import is imported by the command
that needs it, so that `--help` answers at once.
"""

from __future__ import annotations

import logging
import signal
import sys
import threading
from contextlib import suppress
from io import TextIOWrapper
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

import click

from chinook_sim.cli.checks import verify
from chinook_sim.cli.common import Common, common
from chinook_sim.cli.history import backfill
from chinook_sim.cli.runs import align
from chinook_sim.cli.sales import generate
from chinook_sim.cli.shapes import profile
from chinook_sim.cli.shop import init
from chinook_sim.cli.status import status
from chinook_sim.cli.stream import live
from chinook_sim.cli.undo import undo
from chinook_sim.errors import ChinookSimError, DatabaseUnavailable, InvalidInput
from chinook_sim.interrupts import interruptible
from chinook_sim.settings import load_dotenv

if TYPE_CHECKING:
    from sys import UnraisableHookArgs

__all__ = ["cli", "main"]

DONE, WRONG_USAGE, UNREACHABLE, FAILED, INTERRUPTED = 0, 2, 3, 4, 130
"""Exit statuses; 1 is `verify`'s own."""


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="chinook-sim")
@common
def cli(_: Common) -> None:
    """Make the Chinook music shop live: yesterday's sales, in one transaction.

    The database is the first of: --database-url, CHINOOK_SIM_DATABASE_URL, DATABASE_URL, libpq's
    PGHOST or PGSERVICE, NEON_PROJECT_ID, and else chinook.db, a SQLite file made on first use. A
    file .env in the working directory is read; the environment wins over it.

    Exit status: 0 done; 1 a check found something wrong; 2 wrong usage or input; 3 the database
    could not be reached or refused; 4 the batch failed and was rolled back; 130 interrupted and
    rolled back.
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
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            # A character that a terminal has not must not fail what is committed.
            stream.reconfigure(errors="backslashreplace")
    settings = Common()
    try:
        with interruptible():
            load_dotenv(Path.cwd())
            code = cli.main(obj=settings, standalone_mode=False) or DONE
    except click.exceptions.NoArgsIsHelpError as error:
        # Nothing is wrong with what was given; there is only no command in it.
        with suppress(OSError):
            click.echo(error.format_message(), err=True)
        code = WRONG_USAGE
    except click.ClickException as error:
        command = (
            error.ctx.command_path if isinstance(error, click.UsageError) and error.ctx else ""
        )
        said = error.format_message().rstrip(".")
        code = complain(settings, WRONG_USAGE, f"{said}; see `{command or 'chinook-sim'} --help`")
    except InvalidInput as error:
        code = complain(settings, WRONG_USAGE, error)
    except DatabaseUnavailable as error:
        code = complain(settings, UNREACHABLE, error)
    except ChinookSimError as error:
        code = complain(settings, FAILED, error)
    except (KeyboardInterrupt, click.Abort):
        if settings.done:
            settings.warn("interrupted when all was done, and committed")
            code = DONE
        else:
            code = complain(settings, INTERRUPTED, settings.interrupted)
    except Exception as error:
        code = complain(settings, FAILED, f"unexpected {type(error).__name__}: {error}")
    # The exit status is settled: a signal while Python takes itself down must not change it.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    sys.exit(code)


def interrupt_again(ignored: UnraisableHookArgs) -> None:
    """Interrupt the command soon where an interruption was lost in a destructor."""
    if issubclass(ignored.exc_type, KeyboardInterrupt):
        # Not from here, where it would be lost as well.
        threading.Timer(0.01, signal.raise_signal, [signal.SIGINT]).start()


def complain(settings: Common, code: int, error: object) -> int:
    """Print one line that says what is wrong, and return the exit status."""
    settings.warn(f"Error: {error}")
    return code
