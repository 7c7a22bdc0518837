"""Which invoices a run made, and which runs concern an invoice."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sqlalchemy import exists, literal, select

from chinook_sim.database.backends import backend_for
from chinook_sim.database.expressions import in_range
from chinook_sim.models import CHANGE, RANGE, RUN
from chinook_sim.sales.id_ranges import IdRanges

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sqlalchemy import ColumnElement, Connection, Row, Select


__all__ = [
    "changed_by",
    "invoices_of",
    "made_by_active_run",
    "of_runs",
    "ranges_of",
    "run_contains_invoice",
]


def ranges_of(connection: Connection, runs: Sequence[str]) -> dict[str, IdRanges]:
    """Return the ids of the invoices of some runs, by run; consecutive ranges as one."""
    rows = connection.execute(
        select(RANGE.c.run_id, RANGE.c.first_id, RANGE.c.last_id, RANGE.c.step)
        .where(of_runs(connection, RANGE.c.run_id, runs))
        .order_by(RANGE.c.run_id, RANGE.c.first_id)
    )
    found: dict[str, list[range]] = {run: [] for run in runs}
    for run_id, first, last, step in rows:
        parts = found[run_id]
        if parts and parts[-1].step == step and parts[-1][-1] + step == first:
            parts[-1] = range(parts[-1][0], last + 1, step)
        else:
            parts.append(range(first, last + 1, step))
    return {run: IdRanges(parts) for run, parts in found.items()}


def of_runs(connection: Connection, column: Any, runs: Sequence[str]) -> ColumnElement[bool]:
    """Return the condition that a column is the id of one of any number of runs."""
    if len(runs) == 1:
        condition: ColumnElement[bool] = column == runs[0]
        return condition
    return backend_for(connection).in_values(column, runs)


def invoices_of(connection: Connection, *runs: str) -> Select[Any]:
    """Return the invoices of some runs, as a SELECT of their ids; some may be gone."""
    these = of_runs(connection, RANGE.c.run_id, runs)
    return backend_for(connection).ids_in_ranges().where(these)


def made_by_active_run(invoice: Any) -> ColumnElement[bool]:
    """Return the condition that a run that is not undone made an invoice, or an alias of it."""
    made = select(literal(1)).select_from(RANGE).join(RUN, RUN.c.run_id == RANGE.c.run_id)
    return exists(
        made.where(
            in_range(invoice.invoice_id), RUN.c.digest.is_not(None), RUN.c.undone_at.is_(None)
        ).correlate(invoice)
    )


def run_contains_invoice(number: Any, run_id: str) -> ColumnElement[bool]:
    """Return the condition that an id is of an invoice that a run made, or moved."""
    of_it = select(literal(1)).select_from(RANGE).where(in_range(number), RANGE.c.run_id == run_id)
    return exists(of_it.correlate_except(RANGE))


def changed_by(connection: Connection, runs: Sequence[str]) -> list[Row[Any]]:
    """Return the runs that later changed what some runs made, or changed again what they changed.

    Args:
        connection: on a Chinook with a ledger of changes.
        runs: the runs.

    Returns:
        run_id, kind and key of each run that is not undone and not one of these.
    """
    other, earlier = RUN.alias(), CHANGE.alias()
    found = select(other.c.run_id, other.c.kind, other.c.key)
    # A batch changes invoices before it makes its own, so none of its own. From the sales to their
    # changes, by index: there may be many of either.
    of_its_sales = (
        found.select_from(RANGE)
        .join(CHANGE, (CHANGE.c.subject == "invoice") & in_range(CHANGE.c.subject_id))
        .join(other, other.c.run_id == CHANGE.c.run_id)
        .where(of_runs(connection, RANGE.c.run_id, runs))
    )
    again = (
        found.select_from(earlier)
        .join(
            CHANGE,
            (CHANGE.c.subject == earlier.c.subject)
            & (CHANGE.c.subject_id == earlier.c.subject_id)
            & (CHANGE.c.change_id > earlier.c.change_id),
        )
        .join(other, other.c.run_id == CHANGE.c.run_id)
        .where(of_runs(connection, earlier.c.run_id, runs))
    )
    active = other.c.undone_at.is_(None), ~of_runs(connection, other.c.run_id, runs)
    return list(connection.execute(of_its_sales.where(*active).union(again.where(*active))))
