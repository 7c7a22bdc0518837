"""`align`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from chinook_sim.cli.options import (
    Command,
    common_options,
    option,
    timeout_options,
    timezone_option,
)
from chinook_sim.cli.output import table
from chinook_sim.cli.transactions import run_read_only, with_retries

if TYPE_CHECKING:
    from chinook_sim.cli.context import CliContext

__all__ = ["align"]


@click.command(cls=Command)
@timezone_option
@option("--dry-run", is_flag=True, help="Show what would be moved without moving it.")
@common_options
@timeout_options
def align(settings: CliContext, timezone: str | None, dry_run: bool) -> None:
    """Move the dates of the history so that its last day is D-2. This is done only once.

    The invoices of a Chinook end years ago. The dates of simulated sales stay. `undo` moves the
    history back.
    """
    from chinook_sim.operations.align import align as move_history

    location = settings.find_database()
    if dry_run:
        made = run_read_only(
            settings, location, lambda it: move_history(it, timezone=timezone, dry_run=True)
        )
    else:
        made, _ = with_retries(settings, location, lambda it: move_history(it, timezone=timezone))
    record = {
        "days": made.days,
        "invoices": made.invoices,
        "first": None if made.first is None else str(made.first),
        "last": None if made.last is None else str(made.last),
        "target": str(made.target),
        "run": made.run_id,
    }
    if made.existed:
        headline = f"the history of {location.shown} was already moved by run {made.run_id}"
    elif not made.days:
        reason = (
            "no invoice from before the ledger is dated at midnight"
            if made.first is None
            else "the history already ends on D-2"
        )
        headline = f"nothing to move in {location.shown}: {reason}"
    else:
        headline = f"{'would move' if dry_run else 'moved'} the history of {location.shown}"
    settings.print(
        {"database": location.shown, "dry_run": dry_run, "existed": made.existed, **record},
        [headline, "", *table(record)],
    )
