"""Undoing one run: taking its sales out, putting back what it changed, or moving history back."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import numpy as np
from sqlalchemy import Numeric, delete, func, select

from chinook_sim.alignment import KIND as ALIGN
from chinook_sim.alignment import move_back, moved_without
from chinook_sim.batch import Digest
from chinook_sim.content import content_of, customer_before
from chinook_sim.content.parts import SUBJECTS
from chinook_sim.errors import UndoRefused
from chinook_sim.ledger import (
    STREAM,
    changed_by,
    find_run,
    invoices_of,
    mark_undone,
    require,
    runs_of_stream,
)
from chinook_sim.models import CANCELLATION, SIGN_UP, Change, Invoice, InvoiceLine, Run
from chinook_sim.references import references
from chinook_sim.shop import note_prices_undone
from chinook_sim.simulate import all_or_nothing

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sqlalchemy import Connection, Row, Select
    from sqlalchemy.orm import Session

    from chinook_sim.naming import Chinook
    from chinook_sim.rights import Purpose

__all__ = ["Undone", "undo"]

SLICE = 10_000
"""Sales looked at in one piece."""


@dataclass(frozen=True, slots=True)
class Undone:
    """What was taken out.

    Attributes:
        run_id: the run, or the stream.
        kind: what it had done; see `Run`.
        day: its day, the first one of a stream.
        sales: the number of sales the run had made, or of invoices moved back.
        lines: the number of their lines.
        revenue: the sum of their totals.
        existed: whether it had been undone before, and nothing was done now.
    """

    run_id: str
    kind: str
    day: date
    sales: int
    lines: int
    revenue: Decimal
    existed: bool


def undo(session: Session, run: str) -> Undone:
    """Undo one run, exactly: what it made goes, what it changed is as before, all else stays.

    The run remains in the ledger, marked, and its key is free again.

    Args:
        session: a session on a Chinook with a ledger; its transaction stays yours.
        run: the run's id, or its first characters, at least four; or the name of a stream, such
            as `live-3f9a1c2e`, all of whose runs are undone, the latest first.

    Raises:
        InvalidInput: there is no such run, or more than one.
        UndoRefused: what it made was changed since, or other rows refer to it.
        NoLedger: the database was not migrated.
        BatchFailed: the database did not take it; nothing was undone.
    """
    with all_or_nothing(session, "undo") as (connection, chinook):
        require(chinook)
        rows = runs_of_stream(connection, run) if run.startswith(STREAM) else []
        if not rows:
            row = find_run(connection, run)
            existed = not _undo(session, connection, chinook, row)
            return Undone(row.run_id, row.kind, row.day, row.sales, row.lines, row.revenue, existed)
        done = [row for row in rows if _undo(session, connection, chinook, row)]
        counted = done or rows
        return Undone(
            run,
            rows[0].kind,
            rows[-1].day,
            sum(row.sales for row in counted),
            sum(row.lines for row in counted),
            sum((row.revenue for row in counted), Decimal("0.00")),
            not done,
        )


def _undo(session: Session, connection: Connection, chinook: Chinook, row: Row[Any]) -> bool:
    """Undo a run, unless it was."""
    if row.undone_at is not None:
        return False
    subjects = _changed(connection, row.run_id) if chinook.changes else set()
    if row.kind == ALIGN:
        move_back(connection, row)
    elif subjects:
        only_sales = subjects == {"invoice"}
        purpose: Purpose = "undo changes" if only_sales else "undo shop"
        with all_or_nothing(session, purpose, chinook):
            _Undoing(connection, chinook, row, subjects).undo()
    else:
        _Undoing(connection, chinook, row, subjects).undo()
    mark_undone(connection, row.run_id)
    return True


def _changed(connection: Connection, run_id: str) -> set[str]:
    """Return what a run changed."""
    subjects = select(Change.subject).where(Change.run_id == run_id, Change.subject.in_(SUBJECTS))
    return set(connection.scalars(subjects.distinct()))


class _Undoing:
    """Takes a run's sales out, and puts back what it changed."""

    def __init__(
        self, connection: Connection, chinook: Chinook, run: Row[Any], changed: set[str]
    ) -> None:
        # In the order in which they may be put back.
        self._subjects = [subject for subject in SUBJECTS if subject in changed]
        self._connection = connection
        self._chinook = chinook
        self._run = run
        self._sales = invoices_of(connection, run.run_id)

    def undo(self) -> None:
        """Undo the run, and what it changed, if anything.

        Raises:
            UndoRefused: what it made or changed is not as it left it, or something refers to it.
        """
        self._lock(self._sales)
        if self._subjects:
            self._lock(
                select(Change.subject_id).where(
                    Change.run_id == self._run.run_id, Change.subject == "invoice"
                )
            )
        self._take_out()
        if self._subjects:
            self._put_back()

    def _lock(self, ids: Select[Any]) -> None:
        # The lines too: from here on nobody changes them, nor comes to refer to them.
        for key in (InvoiceLine.invoice_line_id, Invoice.invoice_id):
            these = select(key).where(key.class_.invoice_id.in_(ids)).with_for_update()
            self._connection.execute(select(func.count()).select_from(these.subquery()))

    def _take_out(self) -> None:
        connection, run, ids = self._connection, self._run, self._sales
        found = connection.scalar(
            select(func.count()).select_from(Invoice).where(Invoice.invoice_id.in_(ids))
        )
        if found == run.sales == 0:
            return
        others = self._others()
        if not found and not others:
            # All were deleted: there is nothing to compare, and nothing to lose.
            return
        if found != run.sales:
            gone = run.sales - (found or 0)
            raise self._refused(f"{gone} of the run's {run.sales} sales were cancelled", others)
        if _digest(connection, run) != run.digest or _amounts_changed(connection, run):
            raise self._refused("the run's sales were changed", others)
        for reference in references(connection):
            sold = reference.sold
            theirs = select(func.count()).select_from(sold)
            # Not left to the foreign key: it may cascade, and take what is not the run's.
            if connection.scalar(theirs.where(sold.invoice_id.in_(ids), reference.refers)):
                raise UndoRefused(
                    f"not undone: {reference.table} refers to its sales; delete those rows first"
                )
        for model in (InvoiceLine, Invoice):
            connection.execute(delete(model).where(model.invoice_id.in_(ids)))

    def _put_back(self) -> None:
        content = content_of(self._connection)
        for subject in self._subjects:
            changed = content.changed_since(self._run.run_id, subject)
            if changed:
                raise self._refused(
                    f"{len(changed)} {subject}s that the run changed are not as it left them "
                    f"({subject} {changed[0]})",
                    self._others(),
                )
        moved = moved_without(self._connection, self._run.run_id)
        if moved is not None:
            raise UndoRefused(
                "not undone: the run cancelled invoices of the history, which was moved since; "
                f"undo run {moved[:8]} first"
            )
        self._refuse_customers_who_bought()
        for subject in self._subjects:
            content.put_back(self._run.run_id, subject)
        if "track" in self._subjects:
            note_prices_undone(self._connection, self._run.run_id)

    def _refuse_customers_who_bought(self) -> None:
        newcomers = select(Change.subject_id).where(
            Change.run_id == self._run.run_id, Change.kind == SIGN_UP
        )
        bought = select(func.count()).where(Invoice.customer_id.in_(newcomers))
        # What was cancelled since could not be put back without them.
        cancelled = (
            select(func.count())
            .select_from(Change)
            .join(Run, Run.run_id == Change.run_id)
            .where(
                Change.kind == CANCELLATION,
                Run.undone_at.is_(None),
                customer_before(self._connection).in_(newcomers),
            )
        )
        found = sum(self._connection.scalar(count) or 0 for count in (bought, cancelled))
        if found:
            raise UndoRefused(
                f"not undone: customers who signed up in the run have bought {found} times since; "
                "undo those runs first"
            )

    def _others(self) -> list[str]:
        return changed_by(self._connection, self._run.run_id) if self._chinook.changes else []

    def _refused(self, why: str, others: list[str]) -> UndoRefused:
        then = "delete them yourself if they shall go"
        if others:
            then = f"undo {', '.join(f'run {other[:8]}' for other in others)} first"
        return UndoRefused(f"not undone: {why} since; {then}")


def _digest(connection: Connection, run: Row[Any]) -> str:
    """Return the digest of a run's sales as they are in the tables now."""
    ids = invoices_of(connection, run.run_id)
    sizes = select(func.count()).where(InvoiceLine.invoice_id == Invoice.invoice_id)
    sales = (
        select(Invoice.customer_id, Invoice.invoice_date, sizes.scalar_subquery())
        .where(Invoice.invoice_id.in_(ids))
        .order_by(Invoice.invoice_id)
    )
    lines = (
        select(InvoiceLine.track_id, InvoiceLine.unit_price)
        .where(InvoiceLine.invoice_id.in_(ids))
        .order_by(InvoiceLine.invoice_id, InvoiceLine.invoice_line_id)
    )
    start = datetime.combine(run.day, time())
    nothing = np.empty(0, dtype=np.int64)
    digest = Digest(run.day)
    for customers, moments, counts in _columns(connection, sales):
        seconds = [(moment - start) // timedelta(seconds=1) for moment in moments]
        digest.add(*map(np.array, (customers, seconds, counts)), nothing, nothing)
    for tracks, prices in _columns(connection, lines):
        cents = [int(price * 100) for price in prices]
        digest.add(nothing, nothing, nothing, *map(np.array, (tracks, cents)))
    return digest.hexdigest()


def _amounts_changed(connection: Connection, run: Row[Any]) -> bool:
    """Tell whether quantities or totals, which the digest does not hold, are others now."""
    ids = invoices_of(connection, run.run_id)
    # Rounded, as SQLite keeps amounts as floating-point numbers.
    prices = func.round(InvoiceLine.unit_price * 100, type_=Numeric)
    lines = select(func.sum(prices)).where(InvoiceLine.invoice_id == Invoice.invoice_id)
    totals = select(func.count()).where(
        Invoice.invoice_id.in_(ids),
        func.round(Invoice.total * 100, type_=Numeric) != lines.scalar_subquery(),
    )
    quantities = select(func.count()).where(
        InvoiceLine.invoice_id.in_(ids), InvoiceLine.quantity != 1
    )
    return bool(connection.scalar(totals) or connection.scalar(quantities))


def _columns(connection: Connection, question: Any) -> Iterator[tuple[Any, ...]]:
    """Return the columns of an answer, a slice of its rows at a time."""
    answer = connection.execute(question, execution_options={"yield_per": SLICE})
    for rows in answer.partitions():
        yield tuple(zip(*rows, strict=True))
