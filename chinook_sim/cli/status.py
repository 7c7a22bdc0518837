"""`status`: a database, its runs, and the history of an invoice."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource

from chinook_sim.cli.database_report import describe_database, without_names
from chinook_sim.cli.options import Command, common_options, option, timezone_option
from chinook_sim.cli.output import table
from chinook_sim.cli.param_types import Day, Integer
from chinook_sim.cli.transactions import transaction
from chinook_sim.errors import InvalidInput
from chinook_sim.kinds import RunKind

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import date, datetime

    from sqlalchemy import Connection

    from chinook_sim.cli.context import CliContext
    from chinook_sim.ledger.history import InvoiceHistory, InvoiceRun

__all__ = ["status"]

KINDS = [kind.value for kind in RunKind if kind is not RunKind.BASELINE]


def largest_id() -> int:
    """Return the largest id that an invoice can have."""
    from chinook_sim.database.schema import LARGEST_ID

    return LARGEST_ID


@click.command(cls=Command)
@option(
    "--day",
    type=Day(),
    metavar="YYYY-MM-DD",
    help="List the runs of this day. [default: all days]",
)
@option(
    "--kind",
    "kinds",
    type=click.Choice(KINDS),
    multiple=True,
    help="List the runs of this kind; may be repeated. [default: all kinds]",
)
@option(
    "--limit",
    type=Integer("the limit", 2**31 - 1),
    metavar="N",
    default=10,
    help="List at most N runs, the latest ones (0 lists all).",
)
@option(
    "--invoice",
    type=Integer("the invoice id", largest_id),
    metavar="ID",
    help="Show which run made this invoice, and what changed it since.",
)
@timezone_option
@common_options
def status(
    settings: CliContext,
    day: date | None,
    kinds: tuple[str, ...],
    limit: int,
    invoice: int | None,
    timezone: str | None,
) -> None:
    """Show the database, its Chinook, the date of D-1, and the runs.

    The latest runs are listed first. A stream is one row; with --day, the row counts the
    transactions of that day. With --invoice, one invoice is shown instead. If there is no such
    invoice, the exit status is 0 too.
    """
    if invoice is not None:
        refuse_run_filters()
        show_invoice(settings, invoice)
        return
    location = settings.find_database()
    with transaction(settings, location, writing=False) as connection:
        shop = describe_database(connection, timezone)
        readable = isinstance(shop["runs"], int) and shop["runs"]
        runs, matching = list_runs(connection, limit, day, kinds) if readable else ([], 0)
    record = {"database": location.shown, "from": location.source, **shop}
    settings.print(
        {**record, "matching_runs": matching, "latest_runs": runs},
        [
            *table(without_names(record)),
            *name_table(shop["names"] or {}),
            *run_table(runs),
            *summary(len(runs), matching, day, kinds),
        ],
    )


def refuse_run_filters() -> None:
    """Refuse options that select runs, if they are on the command line together with --invoice."""
    context = click.get_current_context()
    for name in ("day", "kinds", "limit"):
        if context.get_parameter_source(name) is ParameterSource.COMMANDLINE:
            shown = "kind" if name == "kinds" else name
            raise InvalidInput(f"--invoice cannot be combined with --{shown}; give one of them")


def list_runs(
    connection: Connection, limit: int, day: date | None, kinds: Sequence[str]
) -> tuple[list[dict[str, Any]], int]:
    """Return the latest runs and streams, latest first, and how many match in total."""
    from chinook_sim.ledger.listing import count_listings, latest_runs

    runs = [
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
            "at": shown_time(row.at),
            "version": row.version,
            "undone": shown_time(row.undone_at),
        }
        for row in latest_runs(connection, limit or None, day=day, kinds=kinds)
    ]
    # All are listed, so there is nothing to count.
    if not limit or len(runs) < limit:
        return runs, len(runs)
    return runs, count_listings(connection, day=day, kinds=kinds)


def name_table(names: dict[str, str]) -> list[str]:
    """Format the names of tables and columns."""
    if not names:
        return []
    return ["", *align_columns([("Chinook", "this database"), *names.items()], right=())]


def run_table(runs: list[dict[str, Any]]) -> list[str]:
    """Format runs as a table."""
    if not runs:
        return []
    shown = [("run", "day", "sales", "revenue", "at", "kind", "key")]
    for run in runs:
        kind = run["kind"] + (" (undone)" if run["undone"] else "")
        figures = (f"{run['sales']:,}", run["revenue"])
        name = run["run"] if run["kind"] == RunKind.LIVE else run["run"][:8]
        shown.append((name, run["day"], *figures, run["at"], kind, run["key"] or ""))
    return ["", *align_columns(shown, right=(2, 3))]


def align_columns(lines: Sequence[tuple[str, ...]], right: tuple[int, ...]) -> list[str]:
    """Align cells in columns; those in `right` are right-aligned."""
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return [
        "  "
        + "  ".join(
            cell.rjust(width) if place in right else cell.ljust(width)
            for place, (cell, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in lines
    ]


def summary(listed: int, matching: int, day: date | None, kinds: Sequence[str]) -> list[str]:
    """Return how many runs match in total, and how to list the others."""
    if not matching and day is None and not kinds:
        return []
    selected = " or ".join(dict.fromkeys(kinds))
    what = f"run{'' if matching == 1 else 's'}"
    what += f" of kind {selected}" if selected else ""
    what += f" of {day}" if day else ""
    if listed < matching:
        return [
            "",
            f"  the latest {listed:,} of {matching:,} {what}; --limit N lists more, --limit 0 all",
        ]
    return ["", f"  {matching:,} {what}" if matching else f"  no {what}"]


def show_invoice(settings: CliContext, invoice_id: int) -> None:
    """Print which run made an invoice, and what changed it."""
    from chinook_sim.ledger.history import invoice_history

    location = settings.find_database()
    with transaction(settings, location, writing=False) as connection:
        found = invoice_history(connection, invoice_id)
    record = {
        "invoice": found.invoice_id,
        "state": found.state,
        "origin": found.origin,
        "date": None if found.date is None else str(found.date),
        "total": None if found.total is None else str(found.total),
        "made_by": None if found.made_by is None else run_record(found.made_by),
        "cancelled_by": None if found.cancelled_by is None else found.cancelled_by.run_id,
        "changes": [
            {
                "kind": change.kind,
                **run_record(change.run),
                "total_before": None if change.total_before is None else str(change.total_before),
                "total_after": None if change.total_after is None else str(change.total_after),
            }
            for change in found.changes
        ],
        "alignments": [{"days": it.days, **run_record(it.run)} for it in found.alignments],
    }
    settings.print(
        {"database": location.shown, **record},
        [
            f"invoice {invoice_id} of {location.shown}: {describe_state(found)}",
            *history_lines(found),
        ],
    )


def run_record(run: InvoiceRun) -> dict[str, Any]:
    """Return a run that made or changed an invoice, for JSON."""
    return {
        "run": run.run_id,
        "run_kind": run.kind,
        "key": run.key,
        "day": str(run.day),
        "at": shown_time(run.at),
        "undone": shown_time(run.undone_at),
    }


def describe_state(found: InvoiceHistory) -> str:
    """Describe the state of an invoice."""
    if found.cancelled_by is not None:
        return f"cancelled by run {found.cancelled_by.run_id[:8]}"
    return {
        "exists": "exists",
        "undone": "deleted, because the run that made it was undone",
        "deleted": "deleted, and not by a run; `simulate_delete_sale` or other SQL did it",
        "unknown": "not found, neither in the shop nor in the ledger",
    }[found.state]


def history_lines(found: InvoiceHistory) -> list[str]:
    """Format which run made an invoice, and its changes as a table."""
    if found.state == "unknown":
        return []
    made = {
        "before the ledger": "no run; it is older than the ledger",
        "not recorded": "no run; `SaleFactory.create`, `simulate_new_sale` or other SQL made it",
    }
    shown: dict[str, Any] = {"made_by": made.get(found.origin)}
    if found.made_by is not None:
        run = found.made_by
        shown["made_by"] = f"run {run.run_id}"
        shown |= {"kind": run.kind, "key": run.key, "day": run.day, "at": shown_time(run.at)}
        if run.undone_at is not None:
            shown["undone"] = shown_time(run.undone_at)
    if found.state == "exists":
        shown |= {"date": found.date, "total": found.total}
    lines: list[tuple[str, ...]] = [("change", "run", "day", "at", "before", "after", "undone")]
    for change in found.changes:
        totals = (change.total_before, change.total_after)
        amounts = ("-" if total is None else str(total) for total in totals)
        lines.append((change.kind, *run_cells(change.run), *amounts, undone_cell(change.run)))
    for moved in found.alignments:
        kind = f"{moved.days:+,} day{'' if abs(moved.days) == 1 else 's'}"
        lines.append((kind, *run_cells(moved.run), "", "", undone_cell(moved.run)))
    return ["", *table(shown), *(["", *align_columns(lines, right=(4, 5))] if lines[1:] else [])]


def run_cells(run: InvoiceRun) -> tuple[str, str, str]:
    """Return the first characters of a run's id, its day and its time."""
    return run.run_id[:8], str(run.day), shown_time(run.at) or ""


def undone_cell(run: InvoiceRun) -> str:
    """Return when a run was undone."""
    return shown_time(run.undone_at) or ""


def shown_time(moment: datetime | None) -> str | None:
    """Format a timestamp of the ledger, to the second."""
    return None if moment is None else str(moment)[:19]
