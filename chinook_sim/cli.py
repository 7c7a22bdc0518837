"""The command: parse, open one transaction, call the library once, print.

Only this module prints, reads standard input, and ends the process. Results go to standard
output, everything else to standard error. Whatever takes long to import is imported by the command
that needs it, so that `--help` answers at once.
"""

from __future__ import annotations

import json
import logging
import os
import re
import signal
import sys
import time
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import wraps
from io import TextIOWrapper
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

import click

from chinook_sim.errors import BatchFailed, ChinookSimError, DatabaseUnavailable, InvalidInput
from chinook_sim.settings import find_database, load_dotenv, scrub

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from datetime import date

    from sqlalchemy import Connection
    from sqlalchemy.orm import Session

    from chinook_sim.batch import BatchSummary
    from chinook_sim.ledger import Backend
    from chinook_sim.settings import Location

__all__ = ["cli", "main"]

T = TypeVar("T")

DAY = 86_400
"""The longest timeout, in seconds."""

LISTED = 10
"""Runs that `status` lists."""

ATTEMPTS = 4
"""How often a batch is tried that another transaction came in the way of."""

RETRYABLE = {"40001", "40P01", "23505"}
"""A serialization failure, a deadlock, and ids that another writer took: the batch was rolled
back, and may well succeed when all of it is made again."""

DONE, CHECK_FAILED, WRONG_USAGE, UNREACHABLE, FAILED, INTERRUPTED = 0, 1, 2, 3, 4, 130

LONG = 20_000
"""Sales from which a progress bar is worth its line: about a second of work."""

ROWS = 15_600
"""Rows of the stand-in Chinook at scale 1, for its progress bar."""


@dataclass(slots=True)
class Common:
    """What every command is told, and what an error message must know."""

    database_url: str | None = None
    as_json: bool = False
    quiet: bool = False
    verbose: bool = False
    location: Location | None = None
    lock_timeout: int = 30
    statement_timeout: int | None = None
    done: bool = False
    """Whether what the command was asked for is committed."""

    def find(self) -> Location:
        """Find the database that is meant."""
        self.location = find_database(os.environ, option=self.database_url, directory=Path.cwd())
        self.note(f"database: {self.location.shown} (from {self.location.source})")
        return self.location

    def say(self, line: str) -> None:
        """Tell a person what is going on."""
        if not self.quiet:
            self.warn(line)

    def warn(self, line: str) -> None:
        """Write one line to standard error, without any secret."""
        secrets = self.location.secrets if self.location else ()
        # Nobody may be there to read it, which is no reason to fail.
        with suppress(OSError):
            click.echo(scrub(" ".join(line.split()), secrets), err=True)

    def note(self, line: str) -> None:
        """Tell a person who asked for details."""
        if self.verbose:
            self.say(line)

    def print(self, record: dict[str, Any], lines: list[str]) -> None:
        """Print a result, for machines or for people."""
        try:
            if self.as_json:
                click.echo(json.dumps(record, ensure_ascii=False))
            elif not self.quiet:
                click.echo("\n".join(lines))
        except OSError as error:
            # What was asked for is done all the same. What is still in the buffer goes nowhere.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            if not isinstance(error, BrokenPipeError):
                self.warn(f"done, but the result could not be printed: {error.strerror}")


def option(name: str, *names: str, **attributes: Any) -> Callable[[Any], Any]:
    """Declare an option together with its environment variable."""
    variable = "CHINOOK_SIM_" + name.lstrip("-").replace("-", "_").upper()
    return click.option(name, *names, envvar=variable, show_envvar=True, **attributes)


def common(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command the options that all have; they may stand before its name as well."""

    @option("--database-url", metavar="URL", help="PostgreSQL or SQLite; default: see the README.")
    @option("--json", "as_json", is_flag=True, help="Print one line of JSON.")
    @option("--quiet", "-q", is_flag=True, help="Print nothing but errors, and JSON if asked for.")
    @option("--verbose", "-v", is_flag=True, help="Tell what is done, on standard error.")
    @click.pass_context
    @wraps(command)
    def with_common(context: click.Context, /, **options: Any) -> None:
        settings = context.ensure_object(Common)
        for name in ("database_url", "as_json", "quiet", "verbose"):
            setattr(settings, name, options.pop(name) or getattr(settings, name))
        command(settings, **options)

    decorated: Callable[..., None] = with_common
    return decorated


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


day_option = option("--day", metavar="YYYY-MM-DD", help="The day; default: D-1.")
timezone_option = option(
    "--timezone", metavar="ZONE", help="Take D-1 from the clock in, say, Europe/Paris."
)


def limited(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command that writes the options that keep it from waiting for ever."""

    @option(
        "--lock-timeout", metavar="SECONDS", default="30", help="Wait so long for locks; 0: ever."
    )
    @option(
        "--statement-timeout", metavar="SECONDS", help="Let a statement take so long; 0: any time."
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


@cli.command()
@click.argument("n", required=False)
@day_option
@timezone_option
@option("--seed", metavar="NUMBER", help="Make the sales of this seed; default: drawn, and shown.")
@option("--once", is_flag=True, help="Add the day's sales only if they are not there already.")
@option("--key", metavar="KEY", help="The same for a name of your own, such as a job's run id.")
@option("--dry-run", is_flag=True, help="Show what would be added, and add nothing.")
@common
@limited
def generate(
    settings: Common,
    n: str | None,
    day: str | None,
    timezone: str | None,
    seed: str | None,
    once: bool,
    key: str | None,
    dry_run: bool,
) -> None:
    """Add N sales of yesterday (D-1), all in one transaction.

    Without N it is read from standard input, or asked for on a terminal. Where no database is
    named and there is none yet, chinook.db is made first, with a stand-in Chinook.
    """
    from chinook_sim.sampling import SEED_LIMIT
    from chinook_sim.simulate import COUNT_LIMIT, check_key, generate_day, plan_day

    count = read_number("the number of sales", n if n is not None else ask_count(), COUNT_LIMIT)
    wanted: dict[str, Any] = {
        "day": read_day(day),
        "timezone": read_timezone(timezone),
        "seed": None if seed is None else read_number("the seed", seed, SEED_LIMIT - 1),
        "once": once,
        "key": None if key is None else check_key(key),
    }
    if once and key is not None:
        raise InvalidInput("--once makes a key of the day; leave it out, or --key")
    location = settings.find()
    if location.embedded and not dry_run:
        make_missing_file(settings, location)

    def add(session: Session) -> BatchSummary:
        with progress_bar(settings, "sales", count * 2 if count >= LONG else 0) as step:
            return generate_day(session, count, **wanted, progress=step)

    if dry_run:
        batch, retries = look(settings, location, lambda it: plan_day(it, count, **wanted)), 0
    else:
        batch, retries = persistently(settings, location, add)
    show_batch(settings, location, batch, dry_run=dry_run, retries=retries)


@cli.command()
@option("--scale", metavar="NUMBER", default="1", help="Times the size of the real Chinook.")
@option("--from", "source", metavar="FILE|URL", help="A real Chinook instead of the stand-in.")
@common
@limited
def init(settings: Common, scale: str, source: str | None) -> None:
    """Make a database ready.

    A Chinook that is there is migrated, and nothing of it is changed. An empty database gets the
    stand-in Chinook, with invented artists and customers, or the real one that --from names: a
    SQLite file for SQLite, a plain SQL dump for PostgreSQL.
    """
    from tempfile import TemporaryDirectory

    from chinook_sim.standin import MAX_SCALE

    times = read_number("the scale", scale, MAX_SCALE, least=1)
    location = settings.find()
    with TemporaryDirectory(prefix="chinook-sim-") as directory:
        path = None if source is None else fetch_source(location, source, Path(directory))
        made = make_missing_file(settings, location, scale=times, source=path)
        if made is None:
            from chinook_sim.initialise import initialise

            with (
                transaction(settings, location, writing=True) as connection,
                progress_bar(settings, "rows", ROWS * times if times > 1 else 0) as step,
            ):
                made = initialise(connection, scale=times, source=path, progress=step)
    with transaction(settings, location, writing=False) as connection:
        shop = describe(connection)
    happened = {
        "nothing": "was there, and is as it was",
        "stand-in": "is a new stand-in Chinook",
        "copy": "is a copy of the Chinook given",
    }[made]
    settings.print(
        {"database": location.shown, "made": made, **shop},
        [f"{location.shown} {happened}", "", *table(shop)],
    )


@cli.command()
@day_option
@timezone_option
@option("--all", "everything", is_flag=True, help="Check all sales, of whatever day.")
@option("--expect", metavar="NUMBER", help="How many sales there must be.")
@common
def verify(
    settings: Common, day: str | None, timezone: str | None, everything: bool, expect: str | None
) -> None:
    """Check the sales of a day, by default D-1, with SQL of its own.

    Exit status 1 if any check fails. Without --expect, a day without sales fails.
    """
    from chinook_sim.simulate import COUNT_LIMIT
    from chinook_sim.verification import verify_all, verify_day
    from chinook_sim.window import d1

    if everything and day is not None:
        raise InvalidInput("--all checks every day; leave out --day, or --all")
    wanted = None if expect is None else read_number("the number expected", expect, COUNT_LIMIT)
    chosen, zone = read_day(day), read_timezone(timezone)
    location = settings.find()
    with transaction(settings, location, writing=False) as connection:
        if everything:
            of, checks = "all sales", verify_all(connection, expect=wanted)
        else:
            chosen = chosen or d1(connection, zone)
            of, checks = f"sales of {chosen}", verify_day(connection, chosen, expect=wanted)
    failed = sum(not check.passed for check in checks)
    width = max(len(check.name) for check in checks)
    settings.print(
        {
            "database": location.shown,
            "day": None if everything else str(chosen),
            "passed": not failed,
            "checks": [
                {"name": check.name, "passed": check.passed, "figure": check.figure}
                for check in checks
            ],
        },
        [
            f"{of} in {location.shown}",
            "",
            *(
                f"  {'ok    ' if check.passed else 'FAILED'}  {check.name:{width}}  {check.figure}"
                for check in checks
            ),
            "",
            f"{failed} of {len(checks)} checks failed" if failed else "all checks passed",
        ],
    )
    if failed:
        raise click.exceptions.Exit(CHECK_FAILED)


@cli.command()
@timezone_option
@option("--dry-run", is_flag=True, help="Show what would be moved, and move nothing.")
@common
@limited
def align(settings: Common, timezone: str | None, dry_run: bool) -> None:
    """Move the whole history by days, so that its last day is D-2. Only once.

    The invoices of a Chinook end years ago. Simulated sales stay where they are. `undo` takes it
    back.
    """
    from chinook_sim.alignment import align as move

    zone = read_timezone(timezone)
    location = settings.find()
    if dry_run:
        made = look(settings, location, lambda it: move(it, timezone=zone, dry_run=True))
    else:
        made, _ = persistently(settings, location, lambda it: move(it, timezone=zone))
    record = {
        "days": made.days,
        "invoices": made.invoices,
        "first": None if made.first is None else str(made.first),
        "last": None if made.last is None else str(made.last),
        "target": str(made.target),
        "run": made.run_id,
    }
    if made.existed:
        said = f"the history of {location.shown} was moved already, by run {made.run_id}"
    elif not made.days:
        said = f"nothing to move in {location.shown}"
    else:
        said = f"{'would move' if dry_run else 'moved'} the history of {location.shown}"
    settings.print(
        {"database": location.shown, "dry_run": dry_run, "existed": made.existed, **record},
        [said, "", *table(record)],
    )


@cli.command()
@click.argument("run")
@common
@limited
def undo(settings: Common, run: str) -> None:
    """Take one RUN out again: its sales and their lines, or its moving of the history.

    RUN is a run's id, or its first characters; `status` lists them. Refused where its sales were
    changed since, or something refers to them.
    """
    from chinook_sim.undo import undo as take_out

    location = settings.find()
    gone, _ = persistently(settings, location, lambda it: take_out(it, run), undoing=True)
    record = {
        "run": gone.run_id,
        "kind": gone.kind,
        "day": str(gone.day),
        "sales": gone.sales,
        "lines": gone.lines,
        "revenue": str(gone.revenue),
    }
    said = "was undone before" if gone.existed else "is undone"
    settings.print(
        {"database": location.shown, **record, "existed": gone.existed},
        [f"run {gone.run_id} of {location.shown} {said}", "", *table(record)],
    )


@cli.command()
@timezone_option
@common
def status(settings: Common, timezone: str | None) -> None:
    """Show which database is meant, which Chinook it holds, what D-1 is, and what was run."""
    zone = read_timezone(timezone)
    location = settings.find()
    with transaction(settings, location, writing=False) as connection:
        shop = describe(connection, zone)
        runs = list_runs(connection) if shop["runs"] else []
    record = {"database": location.shown, "from": location.source, **shop}
    settings.print({**record, "latest_runs": runs}, [*table(record), *columns(runs)])


# --- input -------------------------------------------------------------------------------------


def ask_count() -> str:
    """Read the number of sales from standard input, or ask for it on a terminal."""
    if sys.stdin is None or sys.stdin.closed:
        return ""
    if sys.stdin.isatty():
        answer: str = click.prompt("How many sales?", prompt_suffix=" ", err=True)
        return answer
    # A number fits; a file given by mistake is not worth reading to its end.
    return sys.stdin.buffer.read(1024).decode("ascii", "replace").strip()


def read_number(what: str, given: str, most: int, *, least: int = 0) -> int:
    """Read a whole number; only ASCII digits will do, which int() alone does not ask for."""
    if re.fullmatch("[0-9]{1,20}", given) and least <= int(given) <= most:
        return int(given)
    if not given:
        raise InvalidInput(f"{what} is missing; give a whole number from {least} to {most}")
    raise InvalidInput(
        f"{what} must be a whole number from {least} to {most}, and {given[:40]!r} is none"
    )


def read_day(given: str | None) -> date | None:
    """Read the day, if one was given."""
    from chinook_sim.window import parse_day

    return None if given is None else parse_day(given)


def read_timezone(given: str | None) -> str | None:
    """Read the name of a time zone, if one was given."""
    from chinook_sim.window import check_timezone

    return None if given is None else check_timezone(given)


def fetch_source(location: Location, source: str, directory: Path) -> Path:
    """Bring the file that a Chinook is to be made from, and see that it fits the database."""
    from chinook_sim.loading import fetch, kind

    path = fetch(source, directory)
    found, wanted = kind(path), location.url.get_backend_name()
    if found != wanted:
        raise InvalidInput(
            f"{path.name} is a Chinook for {found} and the database is {wanted}; "
            "load it into a database of its own kind"
        )
    return path


# --- the database ------------------------------------------------------------------------------


class CommitUnanswered(BatchFailed):
    """The connection was lost, or the command stopped, between COMMIT and its answer."""


@contextmanager
def transaction(settings: Common, location: Location, *, writing: bool) -> Iterator[Connection]:
    """Open the one transaction of a command, and commit it if all went well."""
    from sqlalchemy.exc import DBAPIError

    from chinook_sim.connecting import limit, make_engine, open_connection
    from chinook_sim.refusals import refusal_of

    engine = make_engine(location, writing=writing, patience=settings.lock_timeout)
    try:
        with open_connection(engine, location, say=settings.say) as connection:
            connection.begin()
            limit(connection, settings.lock_timeout, settings.statement_timeout)
            yield connection
            if writing:
                commit(settings, connection)
    except DBAPIError as error:
        refusal = refusal_of(error)
        said = refusal.line if refusal else type(error).__name__
        if writing:
            raise BatchFailed(
                f"{location.shown}, nothing was written: {said}",
                sqlstate=refusal.sqlstate if refusal else None,
            ) from error
        raise DatabaseUnavailable(f"{location.shown} refused: {said}") from error


def commit(settings: Common, connection: Connection) -> None:
    """Commit, and do not guess where the answer is lost."""
    from sqlalchemy.exc import DBAPIError

    try:
        connection.commit()
        settings.done = True
    except (DBAPIError, KeyboardInterrupt) as error:
        if isinstance(error, DBAPIError) and not error.connection_invalidated:
            raise
        raise CommitUnanswered(
            "the connection was lost, or the command stopped, while committing: it is not known "
            "whether anything was written; `chinook-sim status` and `verify` tell"
        ) from error


def look(settings: Common, location: Location, work: Callable[[Session], T]) -> T:
    """Do something that writes nothing, in a transaction of its own."""
    from sqlalchemy.orm import Session

    with (
        transaction(settings, location, writing=False) as connection,
        Session(connection) as session,
    ):
        return work(session)


def persistently(
    settings: Common,
    location: Location,
    work: Callable[[Session], T],
    *,
    undoing: bool = False,
) -> tuple[T, int]:
    """Do something in one transaction; all of it again while others come in its way, and told.

    Returns:
        What `work` returned, and how often it was begun again.
    """
    for retries in range(ATTEMPTS):
        try:
            return commit_once(settings, location, work, undoing=undoing), retries
        except BatchFailed as error:
            if error.sqlstate not in RETRYABLE or retries == ATTEMPTS - 1:
                raise
            settings.say(f"trying again ({retries + 1} of {ATTEMPTS - 1}): {error}")
            import random

            # Not all who came in each other's way shall come back at the same moment.
            time.sleep(random.uniform(0, 0.2 * 2**retries))  # noqa: S311
    raise AssertionError


def commit_once(
    settings: Common, location: Location, work: Callable[[Session], T], *, undoing: bool
) -> T:
    """Do something in one transaction; where the answer to COMMIT is lost, find out."""
    from sqlalchemy.orm import Session

    from chinook_sim.ledger import backend_of

    done: list[Any] = []
    try:
        with transaction(settings, location, writing=True) as connection:
            with Session(connection) as session:
                done.append(work(session))
            backend = backend_of(connection)
    except CommitUnanswered as error:
        if done[0].run_id is None:
            raise
        find_outcome(settings, location, error, done[0].run_id, backend, undone=undoing)
    result: T = done[0]
    return result


def find_outcome(
    settings: Common,
    location: Location,
    unanswered: CommitUnanswered,
    run_id: str,
    backend: Backend | None,
    *,
    undone: bool,
) -> None:
    """Find out, over a new connection, whether a run was committed; return if it was.

    Raises:
        CommitUnanswered: it could not be found out.
        BatchFailed: it was not committed.
    """
    from sqlalchemy.exc import DBAPIError

    from chinook_sim.connecting import make_engine, open_connection
    from chinook_sim.ledger import outcome
    from chinook_sim.naming import recognise

    settings.say("the answer to COMMIT was lost; looking the run up")
    engine = make_engine(location, writing=False)
    try:
        with open_connection(engine, location, say=settings.say) as connection:
            recognise(connection)
            connection.rollback()
            committed = outcome(connection, run_id, backend, undone=undone)
    except (ChinookSimError, DBAPIError, KeyboardInterrupt):
        raise unanswered from None
    if committed is None:
        raise unanswered
    if not committed:
        raise BatchFailed(
            "the connection was lost while committing: not committed, nothing was written; "
            "run it again"
        ) from unanswered
    settings.done = True
    settings.say(f"run {run_id}: committed")


def make_missing_file(
    settings: Common, location: Location, *, scale: int = 1, source: Path | None = None
) -> str | None:
    """Make the SQLite file where there is none; return what was made, or None."""
    path = location.path
    if path is None or not location.missing:
        return None
    from chinook_sim.initialise import make_file

    settings.say(
        f"making {path.name}: {'a copy of ' + source.name if source else 'a stand-in Chinook'}"
    )
    with progress_bar(settings, "rows", ROWS * scale if scale > 1 else 0) as step:
        return make_file(location, path, scale=scale, source=source, progress=step)


def describe(connection: Connection, timezone: str | None = None) -> dict[str, Any]:
    """Say which Chinook a database holds, what D-1 is there, and what is installed."""
    from sqlalchemy import func, select

    from chinook_sim.ledger import count_runs
    from chinook_sim.migrate import installed
    from chinook_sim.models import Customer, Invoice, Track
    from chinook_sim.naming import recognise
    from chinook_sim.window import bounds, d1

    chinook = recognise(connection)
    day = d1(connection, timezone)
    start, end = bounds(day)
    sold = select(func.count()).where(Invoice.invoice_date >= start, Invoice.invoice_date < end)
    last = connection.scalar(select(func.max(Invoice.invoice_date)))
    return {
        "spelling": {"camel": "CamelCase", "snake": "snake_case"}[chinook.spelling],
        "schema": chinook.schema,
        "ids": {
            "none": "none: taken from the highest id, under a lock",
            "sequence": f"sequence {chinook.invoice_ids.sequence}",
            "rowid": "SQLite's own",
        }[chinook.invoice_ids.kind],
        "customers": connection.scalar(select(func.count()).select_from(Customer)),
        "tracks": connection.scalar(select(func.count()).select_from(Track)),
        "invoices": connection.scalar(select(func.count()).select_from(Invoice)),
        "last_invoice": None if last is None else str(last),
        "d1": str(day),
        "sales_of_d1": connection.scalar(sold),
        "revision": installed(connection),
        "runs": count_runs(connection) if chinook.ledger else None,
    }


def list_runs(connection: Connection) -> list[dict[str, Any]]:
    """Return the latest runs of the ledger, newest first."""
    from chinook_sim.ledger import latest_runs

    return [
        {
            "run": row.run_id,
            "kind": row.kind,
            "key": row.key,
            "day": str(row.day),
            "sales": row.sales,
            "lines": row.lines,
            "revenue": str(row.revenue),
            "seed": row.seed,
            "digest": row.digest,
            "invoices": json.loads(row.invoice_ids),
            "at": str(row.created_at)[:19],
            "version": row.version,
            "undone": None if row.undone_at is None else str(row.undone_at)[:19],
        }
        for row in latest_runs(connection, LISTED)
    ]


# --- output ------------------------------------------------------------------------------------


@contextmanager
def progress_bar(settings: Common, unit: str, length: int) -> Iterator[Callable[[int], None]]:
    """Show how far long work is, on a terminal only; length 0 is work too short for it."""
    if not length or settings.quiet or not sys.stderr.isatty():
        yield lambda _: None
        return
    with click.progressbar(length=length, label=unit, file=sys.stderr) as bar:
        yield bar.update


def table(record: dict[str, Any]) -> list[str]:
    """Lay out names and values in two columns."""
    names = {name: name.replace("_", " ").replace("d1", "D-1") for name in record}
    width = max(map(len, names.values()))
    return [
        f"  {names[name]:{width}}  {'-' if value is None else value}"
        for name, value in record.items()
    ]


def columns(runs: list[dict[str, Any]]) -> list[str]:
    """Lay out runs, one a line, by what a person looks for."""
    if not runs:
        return []
    shown = [("run", "day", "sales", "revenue", "at", "kind", "key")]
    for run in runs:
        kind = run["kind"] + (" (undone)" if run["undone"] else "")
        figures = (f"{run['sales']:,}", run["revenue"])
        shown.append((run["run"][:8], run["day"], *figures, run["at"], kind, run["key"] or ""))
    widths = [max(map(len, column)) for column in zip(*shown, strict=True)]
    return [
        "",
        *(
            "  "
            + "  ".join(
                cell.rjust(width) if place in (2, 3) else cell.ljust(width)
                for place, (cell, width) in enumerate(zip(line, widths, strict=True))
            ).rstrip()
            for line in shown
        ),
    ]


def show_batch(
    settings: Common, location: Location, batch: BatchSummary, *, dry_run: bool, retries: int
) -> None:
    """Print what was added, and how it lies over the day."""
    ids = batch.invoice_ids
    done = "would add" if dry_run else "added"
    headline = f"{done} {batch.count:,} sales to {location.shown}"
    if batch.existed:
        headline = f"already there: {batch.count:,} sales in {location.shown}"
    record = {
        "database": location.shown,
        "dry_run": dry_run,
        "existed": batch.existed,
        "run": batch.run_id,
        "key": batch.key,
        "day": str(batch.day),
        "sales": batch.count,
        "lines": batch.lines,
        "revenue": str(batch.revenue),
        "average": str(batch.average),
        "seed": batch.seed,
        "digest": batch.digest,
        "first_invoice": ids[0] if ids else None,
        "last_invoice": ids[-1] if ids else None,
        "hours": list(batch.hours),
        "retries": retries,
    }
    settings.print(
        record,
        [
            headline,
            "",
            f"  day      {batch.day}",
            f"  sales    {batch.count:,}",
            f"  lines    {batch.lines:,}",
            f"  revenue  {batch.revenue:,}",
            f"  average  {batch.average:,}",
            f"  seed     {batch.seed}",
            *([f"  ids      {ids[0]} to {ids[-1]}"] if ids else []),
            *([f"  run      {batch.run_id}"] if batch.run_id else []),
            f"  hours    {picture(batch.hours)}",
            f"           {'0     6     12    18':24}",
        ],
    )


def picture(hours: tuple[int, ...]) -> str:
    """Draw the sales of each hour as a row of bars."""
    try:
        bars = " ▁▂▃▄▅▆▇█"
        bars.encode(getattr(sys.stdout, "encoding", None) or "ascii")
    except UnicodeEncodeError:
        bars = " .:-=+*#@"
    most = max(hours, default=0) or 1
    # Any sale at all shows.
    return "".join(bars[-(-count * (len(bars) - 1) // most)] for count in hours)


# --- the door ----------------------------------------------------------------------------------


def main() -> NoReturn:
    """Run the command, and end the process with its exit status."""
    # A terminated job shall take its statement and its transaction back, like an interrupted one.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    if signal.getsignal(signal.SIGINT) is signal.SIG_DFL:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    # The driver's warnings, of a connection that it gives up, are told in our own words.
    logging.getLogger("psycopg").addHandler(logging.NullHandler())
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            # A character that a terminal has not must not fail what is committed.
            stream.reconfigure(errors="backslashreplace")
    settings = Common()
    try:
        load_dotenv(Path.cwd())
        code = cli.main(obj=settings, standalone_mode=False) or DONE
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
            code = complain(settings, INTERRUPTED, "interrupted; nothing was written")
    except Exception as error:
        code = complain(settings, FAILED, f"unexpected {type(error).__name__}: {error}")
    # The exit status is settled: a signal while Python takes itself down must not change it.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    sys.exit(code)


def complain(settings: Common, code: int, error: object) -> int:
    """Print one line that says what is wrong, and return the exit status."""
    settings.warn(f"Error: {error}")
    return code
