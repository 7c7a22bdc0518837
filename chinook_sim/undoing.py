"""Undoing runs: taking their sales out, putting back what they changed, or moving history back.

One run is undone by itself; a stream in slices of many runs, the latest first, each slice as if it
were one run, so that neither statements nor memory grow with the number of its transactions.
"""

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
    LIVE,
    STREAM,
    changed_by,
    find_run,
    invoices_of,
    mark_undone,
    of_runs,
    require,
    runs_of_stream,
    stream_of,
)
from chinook_sim.models import CANCELLATION, SIGN_UP, Change, Invoice, InvoiceLine, Run
from chinook_sim.references import references
from chinook_sim.shop import note_prices_undone
from chinook_sim.simulate import all_or_nothing

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from sqlalchemy import Connection, Row, Select
    from sqlalchemy.orm import Session

    from chinook_sim.naming import Chinook
    from chinook_sim.rights import Purpose

__all__ = ["Undone", "undo"]

SLICE = 10_000
"""Sales looked at in one piece."""

RUNS = 1_000
"""Runs of a stream undone in one piece."""


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
        witness: a run that is undone if all of it is, to look for where COMMIT is not answered.
    """

    run_id: str
    kind: str
    day: date
    sales: int
    lines: int
    revenue: Decimal
    existed: bool
    witness: str


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
        if not run.lower().startswith(STREAM):
            row = find_run(connection, run)
            existed = not _undo(session, connection, chinook, row)
            made = (row.sales, row.lines, row.revenue)
            return Undone(row.run_id, row.kind, row.day, *made, existed, row.run_id)
        return _undo_stream(session, connection, chinook, run.lower())


def _undo_stream(session: Session, connection: Connection, chinook: Chinook, name: str) -> Undone:
    """Undo those runs of a stream that stand, a slice at a time, the latest first."""
    all_of_it = stream_of(connection, name)
    standing = runs_of_stream(connection, name)
    if not standing:
        return Undone(name, LIVE, *all_of_it[1:], existed=True, witness=name)
    sales, lines, revenue = 0, 0, Decimal("0.00")
    for start in range(0, len(standing), RUNS):
        some = standing[start : start + RUNS]
        rows = connection.execute(
            select(Run.__table__).where(of_runs(connection, Run.run_id, some))
        )
        runs = rows.all()
        subjects = _changed(connection, some)
        with all_or_nothing(session, "undo changes" if subjects else "undo", chinook):
            _Undoing(connection, chinook, runs, subjects, name).undo_together()
        mark_undone(connection, *some)
        sales += sum(row.sales for row in runs)
        lines += sum(row.lines for row in runs)
        revenue += sum(row.revenue for row in runs)
    made = (sales, lines, revenue)
    return Undone(name, LIVE, all_of_it.day, *made, existed=False, witness=standing[0])


def _undo(session: Session, connection: Connection, chinook: Chinook, row: Row[Any]) -> bool:
    """Undo a run, unless it was."""
    if row.undone_at is not None:
        return False
    subjects = _changed(connection, [row.run_id])
    if row.kind == ALIGN:
        move_back(connection, row)
    elif subjects:
        only_sales = subjects == {"invoice"}
        purpose: Purpose = "undo changes" if only_sales else "undo shop"
        with all_or_nothing(session, purpose, chinook):
            undoing = _Undoing(connection, chinook, [row], subjects, _stream(row))
            # A run of a stream may be many transactions, which changed each other's sales.
            undoing.undo_together() if row.kind == LIVE else undoing.undo()
    else:
        _Undoing(connection, chinook, [row], subjects, _stream(row)).undo()
    mark_undone(connection, row.run_id)
    return True


def _stream(row: Row[Any]) -> str | None:
    """Return the name of the stream that a run is of."""
    return row.key.split("/")[0] if row.kind == LIVE else None


def _changed(connection: Connection, runs: Sequence[str]) -> set[str]:
    """Return what some runs changed."""
    these = of_runs(connection, Change.run_id, runs)
    subjects = select(Change.subject).where(these, Change.subject.in_(SUBJECTS))
    return set(connection.scalars(subjects.distinct()))


class _Undoing:
    """Takes the sales of runs out, and puts back what they changed."""

    def __init__(
        self,
        connection: Connection,
        chinook: Chinook,
        runs: Sequence[Row[Any]],
        changed: set[str],
        stream: str | None,
    ) -> None:
        # In the order in which they may be put back.
        self._subjects = [subject for subject in SUBJECTS if subject in changed]
        self._connection = connection
        self._chinook = chinook
        # Ids of sales rise from run to run.
        self._runs = sorted(runs, key=lambda run: run.first_invoice_id or 0)
        self._ids = [run.run_id for run in runs]
        self._stream = stream
        self._whose = "the run" if len(runs) == 1 else "the stream"
        self._sales = invoices_of(connection, *self._ids)

    def undo(self) -> None:
        """Undo a run, and what it changed, if anything.

        Raises:
            UndoRefused: what it made or changed is not as it left it, or something refers to it.
        """
        self._lock_all()
        # Customers who signed up can only go when what they bought has.
        self._take_out()
        if self._subjects:
            self._put_back()

    def undo_together(self) -> None:
        """Undo runs that changed only invoices, which may be each other's sales.

        Raises:
            UndoRefused: as for one.
        """
        self._lock_all()
        others = self._others()
        if others:
            raise self._refused(f"what {self._whose} made or changed was changed", others)
        if self._subjects:
            # First, as only then their sales are as they were made.
            self._put_back()
        self._take_out()

    def _lock_all(self) -> None:
        self._lock(self._sales)
        if self._subjects:
            these = of_runs(self._connection, Change.run_id, self._ids)
            self._lock(select(Change.subject_id).where(these, Change.subject == "invoice"))

    def _lock(self, ids: Select[Any]) -> None:
        # The lines too: from here on nobody changes them, nor comes to refer to them.
        for key in (InvoiceLine.invoice_line_id, Invoice.invoice_id):
            these = select(key).where(key.class_.invoice_id.in_(ids)).with_for_update()
            self._connection.execute(select(func.count()).select_from(these.subquery()))

    def _take_out(self) -> None:
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
        if found != made:
            runs = self._left(runs, others)
        if _digests(connection, runs, ids) != [run.digest for run in runs] or _amounts_changed(
            connection, ids
        ):
            raise self._refused(f"{self._whose}'s sales were changed", others)
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

    def _left(self, runs: list[Row[Any]], others: list[str]) -> list[Row[Any]]:
        """Return the runs that have sales, all of them; where not all were deleted, refuse."""
        firsts = np.array([run.first_invoice_id for run in runs])
        there = np.zeros(len(runs), dtype=np.int64)
        question = select(Invoice.invoice_id).where(Invoice.invoice_id.in_(self._sales))
        for (numbers,) in _columns(self._connection, question):
            owners = np.searchsorted(firsts, np.array(numbers), side="right") - 1
            there += np.bincount(owners, minlength=len(runs))
        for run, left in zip(runs, there.tolist(), strict=True):
            if left != run.sales and (left or others):
                whose = "the run's" if len(self._ids) == 1 else f"run {run.run_id[:8]}'s"
                gone = run.sales - left
                raise self._refused(f"{gone} of {whose} {run.sales} sales were cancelled", others)
        return [run for run, left in zip(runs, there.tolist(), strict=True) if left]

    def _put_back(self) -> None:
        content = content_of(self._connection)
        for subject in self._subjects:
            changed = content.changed_since(self._ids, subject)
            if changed:
                raise self._refused(
                    f"{len(changed)} {subject}s that {self._whose} changed are not as it left them "
                    f"({subject} {changed[0]})",
                    self._others(),
                )
        moved = moved_without(self._connection, *self._ids)
        if moved is not None:
            raise UndoRefused(
                f"not undone: {self._whose} cancelled invoices of the history, which was moved "
                f"since; undo run {moved[:8]} first"
            )
        if "customer" in self._subjects:
            self._refuse_customers_who_bought()
        for subject in self._subjects:
            content.put_back(self._ids, subject)
        if "track" in self._subjects:
            (run_id,) = self._ids
            note_prices_undone(self._connection, run_id)

    def _refuse_customers_who_bought(self) -> None:
        newcomers = select(Change.subject_id).where(
            of_runs(self._connection, Change.run_id, self._ids), Change.kind == SIGN_UP
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
        """Return the runs, and other streams, that changed any of it later."""
        return changed_by(self._connection, self._ids, self._stream)

    def _refused(self, why: str, others: list[str]) -> UndoRefused:
        then = "delete them yourself if they shall go"
        if others:
            names = (it if it.startswith(STREAM) else f"run {it[:8]}" for it in others)
            then = f"undo {', '.join(names)} first"
        return UndoRefused(f"not undone: {why} since; {then}")


def _digests(connection: Connection, runs: Sequence[Row[Any]], ids: Select[Any]) -> list[str]:
    """Return the digests of the sales of some runs as they are in the tables now.

    Args:
        connection: on a recognised Chinook.
        runs: in the order of their sales' ids, which are all there.
        ids: of all these sales.
    """
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
    nothing = np.empty(0, dtype=np.int64)
    digests = [Digest(run.day) for run in runs]
    starts = [datetime.combine(run.day, time()) for run in runs]
    for place, (customers, moments, counts) in _by_run(
        _columns(connection, sales), [run.sales for run in runs]
    ):
        start = starts[place]
        seconds = [(moment - start) // timedelta(seconds=1) for moment in moments]
        digests[place].add(*map(np.array, (customers, seconds, counts)), nothing, nothing)
    for place, (tracks, prices) in _by_run(
        _columns(connection, lines), [run.lines for run in runs]
    ):
        cents = [int(price * 100) for price in prices]
        digests[place].add(nothing, nothing, nothing, *map(np.array, (tracks, cents)))
    return [digest.hexdigest() for digest in digests]


def _by_run(
    slices: Iterator[tuple[Any, ...]], sizes: Sequence[int]
) -> Iterator[tuple[int, tuple[Any, ...]]]:
    """Cut slices of columns so that each piece is of one run; what is too much is the last one's.

    Yields:
        The run's place, and its piece of each column.
    """
    place, left = 0, sizes[0]
    for columns in slices:
        begin, length = 0, len(columns[0])
        while begin < length:
            while left == 0 and place < len(sizes) - 1:
                place += 1
                left = sizes[place]
            end = min(begin + left, length) if place < len(sizes) - 1 else length
            yield place, tuple(column[begin:end] for column in columns)
            left -= end - begin
            begin = end


def _amounts_changed(connection: Connection, ids: Select[Any]) -> bool:
    """Tell whether quantities or totals, which the digest does not hold, are others now."""
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
    # Without the size, SQLite's rows come one by one.
    for rows in answer.partitions(SLICE):
        yield tuple(zip(*rows, strict=True))
