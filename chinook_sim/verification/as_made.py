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

AS_MADE = "sales match the ledger"
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
            "no duplicated sales",
            found.copies.count,
            found.copies.ids,
            "invoice duplicates a sale",
            "invoices duplicate sales",
        ),
        none_of(
            "no sales of undone runs",
            found.undone.count,
            found.undone.ids,
            "invoice found",
            "invoices found",
        ),
        CheckQuery(connection, "1 = 1", {}).expect_none(
            "ledger entries belong to a run",
            statements.WITHOUT_RUN,
            "entry without a run",
            "entries without a run",
        ),
    ]
    if found.strays.count:
        source = " (for example from simulate_new_sale or SaleFactory.create)"
        checks.append(
            none_of(
                "invoices not in the ledger",
                found.strays.count,
                found.strays.ids,
                f"invoice{source}",
                f"invoices{source}",
                remark=True,
            )
        )
    if day is None:
        checks += check_alignment(connection)
    return checks


def _runs(found: Comparison) -> Check:
    differing, here = found.differing, found.moved_here
    figure = (
        f"{counted(found.runs, 'run', 'runs')} compared, "
        f"{counted(len(differing), 'differs', 'differ')}"
    )
    if differing:
        figure += ": " + "; ".join(
            f"{run.title}: {', '.join(run.lines)}" for run in differing[:RUNS_IN_FIGURE]
        )
        if len(differing) > RUNS_IN_FIGURE:
            figure += f"; and {len(differing) - RUNS_IN_FIGURE:,} more"
    if here.count:
        dated = counted(here.count, "sale", "sales")
        figure += f"; {dated} of this day in a run of another day: {listed(here.count, here.ids)}"
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
