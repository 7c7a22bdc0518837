"""`align` and `undo`, and the runs that `status` lists."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from chinook_sim.cli.common import (
    Common,
    common,
    limited,
    option,
    read_timezone,
    timezone_option,
)
from chinook_sim.cli.output import table
from chinook_sim.cli.transactions import look, persistently

if TYPE_CHECKING:
    from sqlalchemy import Connection

__all__ = ["align", "columns", "list_runs", "undo"]

LISTED = 10
"""Runs that `status` lists."""


@click.command()
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


@click.command()
@click.argument("run")
@common
@limited
def undo(settings: Common, run: str) -> None:
    """Take one RUN out again: its sales and their lines, or its moving of the history.

    RUN is a run's id, or its first characters; `status` lists them. The name of a stream, such as
    live-3f9a1c2e, takes out all of its runs. Refused where sales were changed since, or something
    refers to them.
    """
    from chinook_sim.undoing import undo as take_out

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


def list_runs(connection: Connection) -> list[dict[str, Any]]:
    """Return the latest runs and streams of the ledger, newest first."""
    from chinook_sim.ledger import latest_runs

    return [
        {
            "run": row.run,
            "kind": row.kind,
            "key": row.key,
            "day": str(row.day),
            "sales": row.sales,
            "lines": row.lines,
            "revenue": str(row.revenue),
            "seed": row.seed,
            "digest": row.digest,
            "invoices": None
            if row.invoice_ids is None
            else [[part[0], part[-1], part.step] for part in row.invoice_ids.ranges],
            "at": str(row.at)[:19],
            "version": row.version,
            "undone": None if row.undone_at is None else str(row.undone_at)[:19],
        }
        for row in latest_runs(connection, LISTED)
    ]


def columns(runs: list[dict[str, Any]]) -> list[str]:
    """Lay out runs, one a line, by what a person looks for."""
    from chinook_sim.ledger import LIVE

    if not runs:
        return []
    shown = [("run", "day", "sales", "revenue", "at", "kind", "key")]
    for run in runs:
        kind = run["kind"] + (" (undone)" if run["undone"] else "")
        figures = (f"{run['sales']:,}", run["revenue"])
        name = run["run"] if run["kind"] == LIVE else run["run"][:8]
        shown.append((name, run["day"], *figures, run["at"], kind, run["key"] or ""))
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
