"""`backfill`: the sales of many days."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from decimal import Decimal
from itertools import islice
from typing import TYPE_CHECKING

import click

from chinook_sim.cli.init import make_missing_file
from chinook_sim.cli.options import (
    Command,
    common_options,
    option,
    profile_option,
    timeout_options,
)
from chinook_sim.cli.output import StatusLine, counted, table
from chinook_sim.cli.param_types import Count, Day, Seed
from chinook_sim.errors import BatchFailed, DatabaseUnavailable, InvalidInput

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from datetime import date

    from chinook_sim.cli.context import CliContext
    from chinook_sim.database.settings import Location
    from chinook_sim.sales.summary import BatchSummary
    from chinook_sim.sampling.profile import Profile

__all__ = ["backfill"]

SEEDS_LISTED = 10
"""How many seeds the JSON lists. Only days of many separate requests have more."""


@click.command(cls=Command, short_help="Add N sales to each day of a range.")
@click.argument("start", type=Day())
@click.argument("end", type=Day())
@option("--per-day", type=Count("sales per day"), metavar="N", help="Number of sales per day.")
@option(
    "--seed",
    type=Seed(),
    metavar="NUMBER",
    help="Random seed. [default: that of existing days, or drawn at random]",
)
@profile_option
@common_options
@timeout_options
def backfill(
    settings: CliContext,
    start: date,
    end: date,
    per_day: int | None,
    seed: int | None,
    profile: Profile,
) -> None:
    """Add N sales to each day from START to END, each day in a transaction of its own.

    A day is made once. Days that this command or `generate --once` has made are skipped. So it can
    be stopped and run again, or run several times in parallel with the same --seed.

    Days that exist with another number of sales, profile or given seed are not changed. A warning
    counts them, and the exit status is 0.
    """
    if end < start:
        raise InvalidInput(f"the last day, {end}, is before the first, {start}; swap them")
    if per_day is None:
        raise InvalidInput("the number of sales per day is missing; give --per-day")
    location = settings.find_database()
    if location.embedded:
        make_missing_file(settings, location)
    days = (end - start).days + 1
    total = Totals()
    status = StatusLine(settings)
    started = time.monotonic()
    try:
        for day in make_days(settings, location, start, end, per_day, seed, profile, status.say):
            total.add(day)
            if status.due() is not None:
                status.show(total.status_line(days, time.monotonic() - started))
        status.end()
    except (BatchFailed, DatabaseUnavailable) as error:
        status.end()
        if total.days:
            error.add_note(days_done(total.days, days))
        raise
    except KeyboardInterrupt:
        status.end()
        settings.interrupted = f"interrupted; {days_done(total.days, days)}"
        raise
    settings.committed = True
    seconds = time.monotonic() - started
    if total.first_different is not None:
        # Also with --quiet: the days are not what was requested.
        settings.warn(warning(total.different, days, total.first_different))
    record = {
        "start": str(start),
        "end": str(end),
        "days": days,
        "made": total.made,
        "existed": total.existed,
        "different": total.different,
        "sales": total.sales,
        "lines": total.lines,
        "revenue": str(total.revenue),
        "profile": profile.name,
        "seed": next(iter(total.seeds)) if len(total.seeds) == 1 else None,
        "seeds": list(islice(total.seeds, SEEDS_LISTED)),
        "seed_count": len(total.seeds),
        "seconds": round(seconds, 1),
        "rate": round(total.sales / seconds),
    }
    shown: dict[str, object] = {
        **record,
        "sales": f"{total.sales:,}",
        "lines": f"{total.lines:,}",
        "revenue": f"{total.revenue:,}",
        "rate": f"{counted(round(total.sales / seconds), 'sale')} a second",
    }
    del shown["seeds"], shown["seed_count"]
    if len(total.seeds) > 1:
        shown["seed"] = f"{len(total.seeds):,} different seeds"
    settings.print(
        {"database": location.shown, **record},
        [
            f"made {record['made']:,} of {counted(days, 'day')} in {location.shown}",
            "",
            *table(shown),
        ],
    )


@dataclass
class Totals:
    """Totals over the days that are done.

    Attributes:
        days: number of days that are done.
        existed: how many of them existed as requested.
        different: how many of them existed with sales that differ from the request.
        first_different: the earliest of these.
        seeds: the seeds of all days, each once, in the order in which the days were done.
        sales: number of sales that were made now; so are lines and revenue.
    """

    days: int = 0
    existed: int = 0
    different: int = 0
    first_different: BatchSummary | None = None
    seeds: dict[int, None] = field(default_factory=dict)
    sales: int = 0
    lines: int = 0
    revenue: Decimal = Decimal("0.00")

    def add(self, day: BatchSummary) -> None:
        """Add a day, and its sales if they were made now."""
        self.days += 1
        self.seeds[day.seed] = None
        if day.differences:
            self.different += 1
            if self.first_different is None or day.day < self.first_different.day:
                self.first_different = day
        elif day.existed:
            self.existed += 1
        else:
            self.sales += day.count
            self.lines += day.lines
            self.revenue += day.revenue

    @property
    def made(self) -> int:
        """How many days were made now."""
        return self.days - self.existed - self.different

    def status_line(self, days: int, passed: float) -> str:
        """Return the status line after `passed` seconds, with an estimate of the time left."""
        made = self.made
        # Days that existed took no time, so the estimate uses the others.
        left = (
            f"{duration((days - self.days) * passed / made)} left"
            if made
            else "skipping days that exist"
        )
        rate = counted(round(self.sales / passed), "sale")
        return f"{self.days:,} of {counted(days, 'day')}, {rate} a second, {left}"


def warning(different: int, days: int, first: BatchSummary) -> str:
    """Return a warning: how many days differ from the request, how the first does, what to do."""
    details = "; ".join(
        f"{counted(was, 'sale')}, not {asked:,}"
        if isinstance(was, int) and isinstance(asked, int) and name == "number of sales"
        else f"{name} {was}, not {asked}"
        for name, (was, asked) in first.differences.items()
    )
    exist, were = ("exists", "was") if different == 1 else ("exist", "were")
    return (
        f"Warning: {different:,} of {counted(days, 'day')} {exist} with sales that differ from "
        f"this request and {were} not changed; the first: {first.day} has {details}; to replace a "
        f"day, run `chinook-sim undo {(first.run_id or '')[:8]}` and this command again"
    )


def duration(seconds: float) -> str:
    """Format seconds as h:mm:ss."""
    minutes, seconds = divmod(round(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02d}:{seconds:02d}"


def days_done(done: int, days: int) -> str:
    """Return how many days are done, and how to continue."""
    are = "is" if done == 1 else "are"
    return f"{done:,} of {counted(days, 'day')} {are} done; run the same command to continue"


def make_days(
    settings: CliContext,
    location: Location,
    first: date,
    last: date,
    count: int,
    seed: int | None,
    profile: Profile,
    say: Callable[[str], None],
) -> Iterator[BatchSummary]:
    """Make the days, with the timeouts of the command."""
    from chinook_sim.database.engine import make_engine, open_connection, set_timeouts
    from chinook_sim.operations.backfill import backfill as fill_days

    engine = make_engine(location, writing=True, lock_timeout=settings.lock_timeout)
    return fill_days(
        engine,
        first,
        last,
        count,
        seed=seed,
        profile=profile,
        connect=lambda: open_connection(engine, location, say=say),
        prepare=lambda it: set_timeouts(it, settings.lock_timeout, settings.statement_timeout),
    )
