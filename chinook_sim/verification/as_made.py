"""The check that sales are as their runs made them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from chinook_sim.verification import statements
from chinook_sim.verification.alignment import check_alignment
from chinook_sim.verification.comparison import compare
from chinook_sim.verification.query import SHOWN, Check, CheckQuery, counted, listed, none_of

if TYPE_CHECKING:
    from datetime import date

    from sqlalchemy import Connection

    from chinook_sim.database.schema import Chinook
    from chinook_sim.verification.differences import Comparison

__all__ = ["AS_MADE", "check_runs"]

RUNS_IN_FIGURE = 5
"""Runs whose differences are described; all of them are in `Check.runs`."""

AS_MADE = "sales as their runs made them"
"""The name of the check against the ledger."""


def check_runs(
    connection: Connection, chinook: Chinook, day: date | None, baseline: int, back: int
) -> list[Check]:
    """Check the sales against the ledger."""
    if not chinook.ledger:
        why = "it has no ledger; `chinook-sim init` makes one"
        if chinook.outdated_ledger:
            why = "its ledger is incomplete; `chinook-sim init` makes one"
        elif chinook.stray_ledger is not None:
            why = (
                f"its ledger may be in the schema {chinook.stray_ledger}; `chinook-sim init` makes "
                "one, or says how to move that one here"
            )
        return [Check(AS_MADE, True, f"not checked: {why}", remark=True)]
    found = compare(connection, day, baseline=baseline, days_back=back)
    checks = [
        _runs(found),
        none_of(
            "no sale twice",
            found.copies.count,
            found.copies.ids,
            "invoice is the copy of a sale",
            "invoices are copies of sales",
        ),
        none_of(
            "sales of undone runs are gone",
            found.undone.count,
            found.undone.ids,
            "invoice is there",
            "invoices are there",
        ),
        CheckQuery(connection, "1 = 1", {}).expect_none(
            "every entry of the ledger has its run",
            statements.WITHOUT_RUN,
            "entry without, by the id of its subject",
            "entries without, by the ids of their subjects",
        ),
    ]
    if found.strays.count:
        by = ", as by simulate_new_sale or SaleFactory.create"
        checks.append(
            none_of(
                "invoices that no run made",
                found.strays.count,
                found.strays.ids,
                f"invoice{by}",
                f"invoices{by}",
                remark=True,
            )
        )
    if day is None:
        checks += check_alignment(connection)
    return checks


def _runs(found: Comparison) -> Check:
    differing, here = found.differing, found.moved_here
    figure = f"{len(differing):,} of {counted(found.runs, 'run differs', 'runs differ')}"
    if differing:
        figure += ": " + "; ".join(
            f"{run.title}: {', '.join(run.lines)}" for run in differing[:RUNS_IN_FIGURE]
        )
        if len(differing) > RUNS_IN_FIGURE:
            figure += f"; and {len(differing) - RUNS_IN_FIGURE:,} more"
    if here.count:
        dated = counted(here.count, "sale dated on this day is", "sales dated on this day are")
        figure += f"; {dated} of another day's run: {listed(here.count, here.ids)}"
    ids = {id_ for run in differing for it in run.differences.values() for id_ in it.ids}
    return Check(
        AS_MADE,
        not differing and not here.count,
        figure,
        len(differing),
        tuple(sorted({*ids, *here.ids})[:SHOWN]),
        runs=tuple(differing),
        measured={"compared": found.runs, "of_another_day": here.count},
    )
