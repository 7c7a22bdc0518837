"""`undo`: remove what runs have made, and restore what they changed."""

from __future__ import annotations

import time
from dataclasses import dataclass
from decimal import Decimal
from typing import TYPE_CHECKING

import click

from chinook_sim.cli.options import Command, Option, common_options, timeout_options
from chinook_sim.cli.output import StatusLine, counted, table
from chinook_sim.cli.param_types import Day
from chinook_sim.cli.transactions import with_retries
from chinook_sim.errors import BatchFailed, DatabaseUnavailable, InvalidInput

if TYPE_CHECKING:
    from datetime import date

    from sqlalchemy.orm import Session

    from chinook_sim.cli.context import CliContext
    from chinook_sim.database.settings import Location
    from chinook_sim.operations.undo import UndoResult

__all__ = ["undo"]

RUNS_PER_TRANSACTION = 30
"""How many runs of a backfill are undone in one transaction."""


@click.command(cls=Command)
@click.argument("run", required=False)
# Not from the environment: CHINOOK_SIM_DAY may be set for other commands.
@click.option("--key", cls=Option, metavar="KEY", help="Undo the run with this key.")
@click.option(
    "--day", cls=Option, type=Day(), metavar="YYYY-MM-DD", help="Undo all runs of this day."
)
@click.option(
    "--backfill",
    cls=Option,
    type=Day(),
    metavar="START END",
    nargs=2,
    help="Undo what `backfill` and `generate --once` made for the days START to END.",
)
@common_options
@timeout_options
def undo(
    settings: CliContext,
    run: str | None,
    key: str | None,
    day: date | None,
    backfill: tuple[date, date] | None,
) -> None:
    """Undo a run, or all runs of a day or of a backfill.

    The sales that the runs made are deleted, and what they changed is restored. RUN is a run's id
    or its first characters, its key, or the name of a stream, such as live-3f9a1c2e; `status` lists
    them. --day and --backfill undo no alignment; use `undo align`.

    All runs are undone in one transaction. Only --backfill uses several transactions, of
    30 runs each, the latest first. If it is interrupted, run the same command again to continue.

    Nothing is undone if others have changed what the runs made, or if other rows refer to it. The
    exit status is 0 if the runs were undone before, and 2 if there never was such a run.
    """
    given = {"RUN": run, "--key": key, "--day": day, "--backfill": backfill}
    chosen = [name for name, value in given.items() if value is not None]
    if len(chosen) != 1:
        got = f"{' and '.join(chosen)} cannot be combined" if chosen else "nothing to undo"
        raise InvalidInput(f"{got}; give one of RUN, --key, --day and --backfill")
    if backfill is not None:
        undo_backfill(settings, *backfill)
        return
    location = settings.find_database()

    def remove(session: Session) -> UndoResult:
        from chinook_sim.operations.undo import undo as undo_runs

        return undo_runs(session, run, key=key, day=day)

    result, _ = with_retries(settings, location, remove, undoing=True)
    record = {
        "run": result.run_id,
        "kind": result.kind,
        "day": str(result.day),
        "runs": len(result.runs),
        "sales": result.sales,
        "lines": result.lines,
        "revenue": str(result.revenue),
    }
    if result.run_id is not None:
        headline = f"run {result.run_id} of {location.shown} "
        headline += "was undone before" if result.existed else "is undone"
    elif result.existed:
        headline = f"the runs of {day} in {location.shown} were undone before"
    else:
        headline = f"undid {counted(len(result.runs), 'run')} of {day} in {location.shown}"
    hidden = {"runs"} if len(result.runs) < 2 else set()
    hidden |= set() if result.run_id else {"run", "kind"}
    shown = {name: value for name, value in record.items() if name not in hidden}
    settings.print(
        {"database": location.shown, **record, "existed": result.existed},
        [headline, "", *table(shown)],
    )


def undo_backfill(settings: CliContext, first: date, last: date) -> None:
    """Undo the runs of a range of days, 30 in each transaction."""
    location = settings.find_database()
    total = Totals()
    status = StatusLine(settings)
    started = time.monotonic()
    try:
        while total.left:
            settings.committed = False
            undo_some(settings, location, first, last, total)
            if total.left and settings.interrupted_commit is not None:
                raise settings.interrupted_commit
            if total.left and status.due() is not None:
                status.show(total.status_line(time.monotonic() - started))
        status.end()
    except (BatchFailed, DatabaseUnavailable) as error:
        status.end()
        if total.runs:
            error.add_note(total.runs_done())
        raise
    except KeyboardInterrupt:
        status.end()
        if settings.committed:
            total.add_last()
        settings.committed = settings.committed and not total.left
        if total.runs:
            settings.interrupted = f"interrupted; {total.runs_done()}"
        raise
    record = {
        "start": str(first),
        "end": str(last),
        "runs": total.runs,
        "sales": total.sales,
        "lines": total.lines,
        "revenue": str(total.revenue),
        "seconds": round(time.monotonic() - started, 1),
    }
    headline = f"undid {counted(total.runs, 'run')} of {first} to {last} in {location.shown}"
    if total.existed:
        headline = f"the backfill of {first} to {last} in {location.shown} was undone before"
    settings.print(
        {"database": location.shown, **record, "existed": total.existed},
        [headline] if total.existed else [headline, "", *table(record)],
    )


def undo_some(
    settings: CliContext, location: Location, first: date, last: date, total: Totals
) -> None:
    """Undo the latest runs of a range, in one transaction."""

    def remove(session: Session) -> UndoResult:
        from chinook_sim.operations.undo import undo as undo_runs

        total.last = undo_runs(session, backfill=(first, last), limit=RUNS_PER_TRANSACTION)
        return total.last

    with_retries(settings, location, remove, undoing=True)
    total.add_last()


@dataclass
class Totals:
    """Totals over the transactions that are committed.

    Attributes:
        left: number of runs that remain to be undone; 1 at first, since it is not known.
        existed: whether the whole range was undone before.
        last: the result of the last transaction, until it is added.
    """

    runs: int = 0
    sales: int = 0
    lines: int = 0
    revenue: Decimal = Decimal("0.00")
    left: int = 1
    existed: bool = False
    last: UndoResult | None = None

    def add_last(self) -> None:
        """Add the result of the last transaction, which is committed."""
        made, self.last = self.last, None
        if made is None:
            return
        self.existed = made.existed and not self.runs
        self.left = made.left
        if made.existed and self.runs:
            # Another process has undone the rest.
            return
        self.runs += len(made.runs)
        self.sales += made.sales
        self.lines += made.lines
        self.revenue += made.revenue

    def status_line(self, passed: float) -> str:
        """Return the status line after `passed` seconds, with an estimate of the time left."""
        left = round(self.left * passed / self.runs)
        return f"{self.runs:,} of {counted(self.runs + self.left, 'run')} undone, {left:,} s left"

    def runs_done(self) -> str:
        """Return how many runs are undone, and how to continue."""
        return (
            f"{self.runs:,} of {counted(self.runs + self.left, 'run')} "
            f"{'is' if self.runs == 1 else 'are'} undone; run the same command to continue"
        )
