"""Deleting the sales of runs, and restoring what they changed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from sqlalchemy import func, select

from chinook_sim.changes.customers_and_prices import note_prices_undone
from chinook_sim.changes.snapshots import snapshots_of
from chinook_sim.database.expressions import in_range
from chinook_sim.database.foreign_keys import references
from chinook_sim.database.skipped_rows import delete_rows
from chinook_sim.errors import UndoRefused
from chinook_sim.kinds import SUBJECTS, ChangeKind
from chinook_sim.ledger.invoice_ranges import changed_by, invoices_of, of_runs
from chinook_sim.ledger.streams import stream_in
from chinook_sim.models import (
    Change,
    Invoice,
    InvoiceLine,
    Run,
    RunInvoices,
)
from chinook_sim.operations.align import alignment_after_cancellation
from chinook_sim.operations.run_digests import (
    RunMakers,
    amounts_changed,
    number_columns,
    run_digests,
)
from chinook_sim.sales.id_positions import record_highest_ids

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sqlalchemy import Connection, Row, Select

    from chinook_sim.database.schema import Chinook
    from chinook_sim.kinds import Subject

__all__ = ["RUN_LABEL_COLUMNS", "RunUndoing", "refused"]

NAMED = 10
"""Runs that an error message names."""

RUN_LABEL_COLUMNS = [Run.__table__.c[name] for name in ("run_id", "kind", "key")]
"""What an error message needs to know of a run."""


def refused(
    why: str,
    others: Sequence[Row[Any]],
    stream: str | None,
    by_hand: str = "revert those changes by hand",
) -> UndoRefused:
    """Return the error that names the runs to be undone first, or what else lets it be undone.

    Args:
        why: what was changed since.
        others: the runs that changed it.
        stream: the stream that is undone, if it is one; its runs are called by their own ids, and
            those of other streams by the stream's name.
        by_hand: what to do if no run changed it.
    """
    then = f"to undo it nevertheless, {by_hand} and run undo again"
    if others:
        streams = (stream_in(row) for row in others)
        names = dict.fromkeys(
            f"run {row.run_id[:8]}" if of in (None, stream) else of
            for row, of in zip(others, streams, strict=True)
        )
        shown = ", ".join(list(names)[:NAMED])
        more = f" and {len(names) - NAMED} more runs" if len(names) > NAMED else ""
        then = f"undo {shown}{more} first"
    return UndoRefused(f"not undone: {why} since; {then}")


class RunUndoing:
    """Deletes the sales of runs, and restores what they changed."""

    def __init__(
        self,
        connection: Connection,
        chinook: Chinook,
        runs: Sequence[Row[Any]],
        changed: set[str],
        stream: str | None,
    ) -> None:
        # In the order in which they can be restored.
        self._subjects = [subject for subject in SUBJECTS if subject in changed]
        self._connection = connection
        self._chinook = chinook
        self._runs = runs
        self._ids = [run.run_id for run in runs]
        self._stream = stream
        self._whose = "the run"
        if len(runs) > 1:
            self._whose = "the stream" if stream else "the runs"
        self._sales = invoices_of(connection, *self._ids)

    def undo(self) -> None:
        """Undo a run, and what it changed, if anything.

        Raises:
            UndoRefused: what it made or changed is not as it left it, or something refers to it.
        """
        self._lock_all()
        # Customers who signed up are deleted after what they bought.
        self._delete_sales()
        self._restore(self._subjects)

    def undo_together(self) -> None:
        """Undo runs that may have changed each other's sales, customers and prices.

        Raises:
            UndoRefused: as for one.
        """
        self._lock_all()
        others = self._others()
        if others:
            raise self._refused(f"what {self._whose} made or changed was changed", others)
        # Invoices first, as only then the sales are as they were made; the customers who signed up
        # last, as they bought some of them.
        self._restore([subject for subject in self._subjects if subject == "invoice"])
        self._delete_sales()
        self._restore([subject for subject in self._subjects if subject != "invoice"])

    def _lock_all(self) -> None:
        record_highest_ids(self._connection, self._chinook)
        self._lock(self._sales)
        if self._subjects:
            these = of_runs(self._connection, Change.run_id, self._ids)
            self._lock(select(Change.subject_id).where(these, Change.subject == "invoice"))

    def _lock(self, ids: Select[Any]) -> None:
        # The lines too, so that no other transaction changes them or refers to them.
        for key in (InvoiceLine.invoice_line_id, Invoice.invoice_id):
            these = select(key).where(key.class_.invoice_id.in_(ids)).with_for_update()
            self._connection.execute(select(func.count()).select_from(these.subquery()))

    def _delete_sales(self) -> None:
        connection, ids = self._connection, self._sales
        found = connection.scalar(
            select(func.count()).select_from(Invoice).where(Invoice.invoice_id.in_(ids))
        )
        made = sum(run.sales for run in self._runs)
        if found == made == 0:
            return
        others = self._others()
        if not found and not others:
            # All were deleted: there is nothing to compare, and nothing to lose.
            return
        runs = [run for run in self._runs if run.sales]
        makers = RunMakers(connection, runs)
        if found != made:
            runs = self._left(makers, others)
        digests = run_digests(connection, makers, ids)
        changed = [run for run in runs if digests[run.run_id] != run.digest]
        if changed or amounts_changed(connection, ids):
            of_it = "'" if self._whose.endswith("s") else "'s"
            which = ""
            if changed and len(runs) > 1:
                which = f" (of run {changed[0].run_id[:8]}, day {changed[0].day})"
            raise self._refused(f"{self._whose}{of_it} sales were changed{which}", others)
        for reference in references(connection):
            sold = reference.sold
            theirs = select(func.count()).select_from(sold)
            # Not left to the foreign key: it may cascade, and delete rows that are not the run's.
            if connection.scalar(theirs.where(sold.invoice_id.in_(ids), reference.refers)):
                raise UndoRefused(
                    f"not undone: {reference.table} refers to its sales; delete those rows first"
                )
        for model in (InvoiceLine, Invoice):
            delete_rows(connection, model, model.invoice_id.in_(ids))

    def _left(self, makers: RunMakers, others: list[Row[Any]]) -> list[Row[Any]]:
        """Return the runs that have sales, all of them; where not all were deleted, refuse."""
        there = np.zeros(len(makers.runs), dtype=np.int64)
        query = select(Invoice.invoice_id).where(Invoice.invoice_id.in_(self._sales))
        for (numbers,) in number_columns(self._connection, query):
            there += np.bincount(makers.of(np.array(numbers)), minlength=len(makers.runs))
        for run, left in zip(makers.runs, there.tolist(), strict=True):
            if left != run.sales and (left or others):
                whose = "the run's" if len(self._ids) == 1 else f"run {run.run_id[:8]}'s"
                gone = run.sales - left
                sales = "1 sale" if run.sales == 1 else f"{run.sales} sales"
                raise self._refused(
                    f"{gone} of {whose} {sales} {'was' if gone == 1 else 'were'} cancelled",
                    others,
                    "delete the others by hand",
                )
        return [run for run, left in zip(makers.runs, there.tolist(), strict=True) if left]

    def _restore(self, subjects: Sequence[Subject]) -> None:
        if not subjects:
            return
        snapshots = snapshots_of(self._connection)
        for subject in subjects:
            changed = snapshots.changed_since(self._ids, subject)
            if changed:
                counted = f"{len(changed)} {subject}{'s' if len(changed) > 1 else ''}"
                raise self._refused(
                    f"{counted} that {self._whose} changed "
                    f"({subject} {changed[0]}{' and others' if len(changed) > 1 else ''}) "
                    f"{'were' if len(changed) > 1 else 'was'} changed",
                    self._others(),
                )
        moved = alignment_after_cancellation(self._connection, *self._ids)
        if moved is not None:
            raise UndoRefused(
                f"not undone: {self._whose} cancelled invoices of the history, which was moved "
                f"since; undo run {moved[:8]} first"
            )
        if "customer" in subjects:
            self._refuse_customers_who_bought()
        for subject in subjects:
            snapshots.restore(self._ids, subject)
            skipped = snapshots.unlike_before(self._ids, subject)
            if skipped:
                raise UndoRefused(
                    f"not undone: a trigger or a rule did not let {subject} {skipped[0]} be put "
                    "back as it was; change or disable it"
                )
        if "track" in subjects:
            these = of_runs(self._connection, Change.run_id, self._ids)
            note_prices_undone(self._connection, these)

    def _refuse_customers_who_bought(self) -> None:
        """Refuse where invoices, there or cancelled, are of customers who signed up in the runs."""
        connection = self._connection
        newcomers = select(Change.subject_id).where(
            of_runs(connection, Change.run_id, self._ids), Change.kind == ChangeKind.SIGN_UP
        )
        theirs = Invoice.customer_id.in_(newcomers)
        bought = connection.scalar(select(func.count()).select_from(Invoice).where(theirs)) or 0
        # What was cancelled since could not be restored without them.
        cancelled = connection.execute(
            select(*RUN_LABEL_COLUMNS)
            .join(Change, Change.run_id == Run.run_id)
            .where(
                Change.kind == ChangeKind.CANCELLATION,
                Run.undone_at.is_(None),
                ~of_runs(connection, Change.run_id, self._ids),
                snapshots_of(connection).customer_before().in_(newcomers),
            )
        ).all()
        found = bought + len(cancelled)
        if not found:
            return
        times = "once" if found == 1 else f"{found} times"
        why = f"customers who signed up in {self._whose} have bought {times}"
        by = connection.execute(
            select(*RUN_LABEL_COLUMNS)
            .select_from(Invoice)
            .join(RunInvoices, in_range(Invoice.invoice_id))
            .join(Run, Run.run_id == RunInvoices.run_id)
            .where(theirs, Run.digest.is_not(None), Run.undone_at.is_(None))
            .distinct()
        ).all()
        if by or cancelled:
            raise self._refused(why, [*by, *cancelled])
        first = connection.scalar(select(func.min(Invoice.invoice_id)).where(theirs))
        raise UndoRefused(
            f"not undone: {why} since; delete those invoices first, which no run made "
            f"(the first is {first})"
        )

    def _others(self) -> list[Row[Any]]:
        """Return the runs that changed any of it later."""
        return changed_by(self._connection, self._ids)

    def _refused(self, why: str, others: Sequence[Row[Any]], *by_hand: str) -> UndoRefused:
        return refused(why, others, self._stream, *by_hand)
