"""`align`."""

from __future__ import annotations

import click

from chinook_sim.cli.common import (
    Command,
    Common,
    common,
    limited,
    option,
    read_timezone,
    timezone_option,
)
from chinook_sim.cli.output import table
from chinook_sim.cli.transactions import look, persistently

__all__ = ["align"]


@click.command(cls=Command)
@timezone_option
@option("--dry-run", is_flag=True, help="Show what would be moved without moving it.")
@common
@limited
def align(settings: Common, timezone: str | None, dry_run: bool) -> None:
    """Move the whole history by days, so that its last day is D-2. Only once.

    The invoices of a Chinook end years ago. Simulated sales stay where they are. `undo` takes it
    back.
    """
    from chinook_sim.operations.align import align as move

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
