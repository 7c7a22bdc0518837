"""`generate`: the sales of a day."""

from __future__ import annotations

import codecs
import sys
from typing import TYPE_CHECKING

import click

from chinook_sim.cli.init import make_missing_file
from chinook_sim.cli.options import (
    Command,
    common_options,
    day_option,
    option,
    profile_option,
    timeout_options,
    timezone_option,
)
from chinook_sim.cli.output import counted, progress_bar, sparkline
from chinook_sim.cli.param_types import Count, DaysBack, Key, SaleCounts, Seed, Share
from chinook_sim.cli.transactions import run_read_only, with_retries
from chinook_sim.errors import InvalidInput
from chinook_sim.kinds import ChangeCounts, ChangeKind

if TYPE_CHECKING:
    from datetime import date
    from decimal import Decimal

    from sqlalchemy.orm import Session

    from chinook_sim.cli.context import CliContext
    from chinook_sim.database.settings import Location
    from chinook_sim.sales.summary import BatchSummary
    from chinook_sim.sampling.profile import Profile

__all__ = ["generate"]

CANDIDATES = {"invoice": "sales of the last 90 days", "customer": "customers", "track": "tracks"}

CHANGES = {kind.field: CANDIDATES[kind.subject] for kind in ChangeKind}
"""The changes besides new sales, and the candidates that they are chosen from."""


LONG = 20_000
"""From this number of sales on there is a progress bar: about a second of work."""


@click.command(cls=Command)
@click.argument("n", type=SaleCounts(), required=False)
@day_option
@timezone_option
@option("--seed", type=Seed(), metavar="NUMBER", help="Random seed. [default: drawn at random]")
@option("--once", is_flag=True, help="Make the sales of a day exactly once.")
@option("--key", type=Key(), metavar="KEY", help="Like --once, under a key such as a job ID.")
@option(
    "--late",
    type=Share(),
    metavar="SHARE",
    default="0",
    help="Share of late sales, 0 to 1.",
)
@option(
    "--late-days",
    type=DaysBack(),
    metavar="DAYS",
    default=7,
    help="Largest lateness in days.",
)
@profile_option
@option(
    "--updates",
    heading="Changes",
    type=Count("updates"),
    metavar="U",
    help="Add a track to U recent sales. [default: 0]",
)
@option(
    "--cancellations",
    heading="Changes",
    type=Count("cancellations"),
    metavar="C",
    help="Cancel C recent sales. [default: 0]",
)
@option(
    "--new-customers",
    heading="Changes",
    type=Count("new customers"),
    metavar="K",
    default=0,
    help="Add K customers before the sales.",
)
@option(
    "--moves",
    heading="Changes",
    type=Count("moves"),
    metavar="M",
    default=0,
    help="Change M customers' addresses.",
)
@option(
    "--price-changes",
    heading="Changes",
    type=Count("price changes"),
    metavar="P",
    default=0,
    help="Change the price of P tracks.",
)
@option("--dry-run", is_flag=True, help="Show what would be done without doing it.")
@common_options
@timeout_options
def generate(
    settings: CliContext,
    n: tuple[int, ...] | None,
    day: date | None,
    timezone: str | None,
    seed: int | None,
    once: bool,
    key: str | None,
    late: Decimal,
    late_days: int,
    profile: Profile,
    updates: int | None,
    cancellations: int | None,
    new_customers: int,
    moves: int,
    price_changes: int,
    dry_run: bool,
) -> None:
    """Add N sales of yesterday (D-1), all in one transaction.

    Without N, the number is read from standard input, or asked for on a terminal. "N U C" means
    sales, updates and cancellations. If no database is named, a missing chinook.db is made first,
    with a stand-in Chinook.
    """
    from chinook_sim.operations.options import BatchOptions, backdating_rule
    from chinook_sim.operations.run_batch import BatchContext, plan_batch, run_batch

    count, updates, cancellations = merge_counts(
        SaleCounts().parse(ask_count()) if n is None else n, updates, cancellations
    )
    wanted = ChangeCounts(updates, cancellations, new_customers, moves, price_changes)
    if once and key is not None:
        raise InvalidInput("--once and --key cannot be combined; give one of them")
    options = BatchOptions(
        day=day,
        timezone=timezone,
        seed=seed,
        once=once,
        key=key,
        changes=wanted,
        backdating=backdating_rule(late, late_days),
        profile=profile,
    )
    location = settings.find_database()
    if location.embedded and not dry_run:
        make_missing_file(settings, location)

    def add(session: Session) -> BatchSummary:
        with progress_bar(settings, "sales", count * 2 if count >= LONG else 0) as step:
            return run_batch(session, count, options, BatchContext(progress=step))

    if dry_run:
        batch, retries = (
            run_read_only(settings, location, lambda it: plan_batch(it, count, options)),
            0,
        )
    else:
        batch, retries = with_retries(settings, location, add)
    for name, candidates in CHANGES.items():
        made, asked = getattr(batch, name), getattr(wanted, name)
        if made < asked:
            settings.say(
                f"{called(name)}: {made:,} instead of {asked:,}, since there are no more "
                f"{candidates} to choose from"
            )
    # Each new customer buys once, so there must be as many sales.
    idle = batch.new_customers - batch.count
    if idle > 0:
        settings.say(
            f"new customers: {idle:,} of {batch.new_customers:,} "
            f"{'buys' if idle == 1 else 'buy'} nothing yet, since there "
            f"{'is' if batch.count == 1 else 'are'} only {counted(batch.count, 'sale')}"
        )
    show_batch(settings, location, batch, dry_run=dry_run, retries=retries)


def called(change: str) -> str:
    """Return the name of a change for a sentence."""
    return change.replace("_", " ")


def merge_counts(
    counts: tuple[int, ...], updates: int | None, cancellations: int | None
) -> tuple[int, int, int]:
    """Return the numbers of sales, updates and cancellations, from one argument and two options.

    Raises:
        InvalidInput: both the argument and an option have a number of changes.
    """
    if len(counts) == 1:
        return counts[0], updates or 0, cancellations or 0
    if (updates, cancellations) != (None, None):
        raise InvalidInput("updates and cancellations are given twice; leave out the options")
    sales, updates, cancellations = counts
    return sales, updates, cancellations


def ask_count() -> str:
    """Read the number of sales from standard input; on a terminal, ask for it."""
    if sys.stdin is None or sys.stdin.closed:
        return ""
    if sys.stdin.isatty():
        answer: str = click.prompt("How many sales?", prompt_suffix=" ", err=True)
        return answer
    # Enough for numbers. A large file that was given by mistake is not read to its end.
    given = sys.stdin.buffer.read(1024)
    if given.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        raise InvalidInput("the number of sales on standard input must be UTF-8, got UTF-16")
    return given.removeprefix(codecs.BOM_UTF8).decode("ascii", "replace").strip()


def show_batch(
    settings: CliContext, location: Location, batch: BatchSummary, *, dry_run: bool, retries: int
) -> None:
    """Print what was added, and how it is distributed over the day."""
    ids = batch.invoice_ids
    changed = ", ".join(
        counted(getattr(batch, name), called(name).removesuffix("s"))
        for name in CHANGES
        if getattr(batch, name)
    )
    done = "would add" if dry_run else "added"
    headline = f"{done} {counted(batch.count, 'sale')} to {location.shown}"
    if changed and not batch.count:
        headline = f"{'would change' if dry_run else 'changed'} {location.shown}"
    if batch.existed:
        headline = f"already generated: {counted(batch.count, 'sale')} in {location.shown}"
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
        "late": batch.late,
        "profile": batch.profile,
        **{name: getattr(batch, name) for name in CHANGES},
        "seed": batch.seed,
        "digest": batch.digest,
        "first_invoice": ids[0] if ids else None,
        "last_invoice": ids[-1] if ids else None,
        "hours": list(batch.hours),
        "retries": retries,
    }
    lines = [headline, "", f"  day      {batch.day}"]
    if batch.count or not changed:
        lines += [
            f"  sales    {batch.count:,}",
            f"  lines    {batch.lines:,}",
            f"  revenue  {batch.revenue:,}",
            f"  average  {batch.average:,}",
        ]
    if batch.late:
        lines.append(f"  late     {batch.late:,}")
    if batch.profile != "uniform":
        lines.append(f"  profile  {batch.profile}")
    if changed:
        lines.append(f"  changes  {changed}")
    lines.append(f"  seed     {batch.seed}")
    if ids:
        lines.append(f"  ids      {ids[0]} to {ids[-1]}")
    if batch.run_id:
        lines.append(f"  run      {batch.run_id}")
    if batch.count:
        hours = f"  hours    {sparkline(batch.hours)}"
        lines += [hours.rstrip(), "           0     6     12    18"]
    settings.print(record, lines)
