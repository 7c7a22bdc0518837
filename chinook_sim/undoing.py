"""Undoing runs: taking their sales out, putting back what they changed, or moving history back.

One run is undone by itself; the runs of a stream, a day or a backfill in slices of many runs, the
latest first, each slice as if it were one run, so that neither statements nor memory grow with the
number of runs.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import numpy as np
from sqlalchemy import Numeric, func, select

from chinook_sim.alignment import KIND as ALIGN
from chinook_sim.alignment import move_back, moved_without
from chinook_sim.batch import Digest
from chinook_sim.content import content_of, customer_before
from chinook_sim.content.parts import SUBJECTS, Subject
from chinook_sim.errors import InvalidInput, UndoRefused
from chinook_sim.ledger import (
    LIVE,
    STREAM,
    changed_by,
    concerned,
    in_range,
    invoices_of,
    mark_undone,
    of_runs,
    ranges_of,
    require,
    runs_of_stream,
    stream_of,
)
from chinook_sim.listing import find_key, find_run, find_runs, in_backfill, of_day
from chinook_sim.models import CANCELLATION, SIGN_UP, Change, Invoice, InvoiceLine, Run, RunInvoices
from chinook_sim.references import references
from chinook_sim.shop import note_prices_undone
from chinook_sim.simulate import all_or_nothing
from chinook_sim.window import check_day
from chinook_sim.writers.ids import remember
from chinook_sim.writers.skipped import delete_rows

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray
    from sqlalchemy import Connection, Row, Select
    from sqlalchemy.orm import Session

    from chinook_sim.naming import Chinook
    from chinook_sim.rights import Purpose

__all__ = ["UndoResult", "undo"]

SLICE = 10_000
"""Sales looked at in one piece."""

RUNS = 1_000
"""Runs undone in one piece."""

SALES = 500_000
"""Sales after which such a piece ends: 16 bytes of memory for each."""

NAMED = 10
"""Runs that an error message names."""

RUN = [Run.__table__.c[name] for name in ("run_id", "kind", "key")]
"""What an error message needs to know of a run."""


@dataclass(frozen=True, slots=True)
class UndoResult:
    """What was undone.

    Attributes:
        run_id: the run, or the stream; None where a day or a backfill was asked for.
        kind: the kind of the run; see `Run`. None where a day or a backfill was asked for.
        day: the day of the sales; the first one of several runs.
        sales: the number of sales that the runs had made, or of invoices moved back.
        lines: the number of their lines.
        revenue: the sum of their totals.
        existed: whether all of it had been undone before, and nothing was done now.
        witness: a run that is undone if all of it is, to look for where COMMIT is not answered.
        runs: the ids of the runs that were undone now, the latest first.
        left: how many of the runs asked for still stand, because of `limit`.
    """

    run_id: str | None
    kind: str | None
    day: date
    sales: int
    lines: int
    revenue: Decimal
    existed: bool
    witness: str
    runs: tuple[str, ...] = ()
    left: int = 0


def undo(
    session: Session,
    run: str | None = None,
    *,
    key: str | None = None,
    day: date | None = None,
    backfill: tuple[date, date] | None = None,
    limit: int | None = None,
) -> UndoResult:
    """Undo runs, exactly: what they made goes, what they changed is as before, all else stays.

    The runs remain in the ledger, marked, and their keys are free again. Either all of the runs
    are undone or none. Give exactly one of run, key, day and backfill.

    Args:
        session: a session on a Chinook with a ledger; its transaction stays yours.
        run: the run's id, or its first characters, at least four; or its key; or the name of a
            stream, such as `live-3f9a1c2e`, all of whose runs are undone.
        key: the run's key, such as `once:2026-01-05`.
        day: all runs of this day; of a stream, the transactions of this day. An alignment is a run
            of no day.
        backfill: the first and the last day of a range: all runs that `backfill` made of these
            days, which are those of `once=True` too.
        limit: undo at most about this many runs, the latest ones; `left` says how many remain.
            For a range that is undone in several transactions.

    Raises:
        InvalidInput: there is no such run, or more than one, or not exactly one way to select
            runs is given.
        UndoRefused: what the runs made was changed since by others, or other rows refer to it.
        NoLedger: the database was not migrated.
        BatchFailed: the database did not take it; nothing was undone.
    """
    ways = {"run": run, "key": key, "day": day, "backfill": backfill}
    given = [name for name, value in ways.items() if value is not None]
    if len(given) != 1:
        raise InvalidInput(
            "undo takes exactly one of run, key, day and backfill, got "
            f"{' and '.join(given) or 'none'}"
        )
    if limit is not None and limit < 1:
        raise InvalidInput(f"limit must be at least 1, got {limit!r}")
    for it in (*(backfill or ()), *([] if day is None else [day])):
        check_day(it)
    if backfill and backfill[1] < backfill[0]:
        raise InvalidInput(
            f"the last day, {backfill[1]}, is before the first, {backfill[0]}; swap them"
        )
    with all_or_nothing(session, "undo") as (connection, chinook):
        require(chinook)
        if day is not None:
            chosen, what = of_day(day), f"no run has the day {day}"
        elif backfill:
            chosen = in_backfill(*backfill)
            what = f"no day from {backfill[0]} to {backfill[1]} was made by backfill or with --once"
        elif run is not None and run.lower().startswith(STREAM):
            return _undo_stream(session, connection, chinook, run.lower(), limit)
        else:
            row = find_key(connection, str(key)) if run is None else find_run(connection, run)
            existed = not _undo(session, connection, chinook, row)
            made = (row.sales, row.lines, row.revenue)
            runs = () if existed else (row.run_id,)
            return UndoResult(row.run_id, row.kind, row.day, *made, existed, row.run_id, runs)
        found = find_runs(connection, *chosen)
        if found.standing:
            return _undo_all(session, connection, chinook, found.standing, limit)
        if found.undone is None or found.total is None:
            raise InvalidInput(f"{what}; `chinook-sim status` lists the runs")
        total = found.total
        made = (total.sales, total.lines, total.revenue)
        return UndoResult(None, None, total.day, *made, existed=True, witness=found.undone)


def _undo_stream(
    session: Session, connection: Connection, chinook: Chinook, name: str, limit: int | None
) -> UndoResult:
    """Undo those runs of a stream that stand, a slice at a time, the latest first."""
    all_of_it = stream_of(connection, name)
    standing = runs_of_stream(connection, name)
    if not standing:
        return UndoResult(name, LIVE, *all_of_it[1:], existed=True, witness=name)
    made = _undo_all(session, connection, chinook, standing, limit, name)
    return replace(made, run_id=name, kind=LIVE, day=all_of_it.day)


def _undo_all(
    session: Session,
    connection: Connection,
    chinook: Chinook,
    standing: Sequence[Row[Any]],
    limit: int | None,
    stream: str | None = None,
) -> UndoResult:
    """Undo runs, all of which stand, a slice at a time.

    Args:
        session: whose transaction it is.
        connection: its connection.
        chinook: what was recognised.
        standing: run_id and sales of each, the latest first.
        limit: the number of runs after which it ends, if not with the last.
        stream: the stream that all of them are of, if they are.

    Raises:
        UndoRefused: as for `undo`.
    """
    left = {row.run_id: row.sales for row in standing}
    wanted = len(left) if limit is None else min(limit, len(left))
    if wanted < len(left):
        # Before anything is committed: what stands in the way of a later slice.
        later = changed_by(connection, list(left))
        if later:
            raise _refused("what the runs made or changed was changed", later, stream)
    undone: list[str] = []
    days: list[date] = []
    sales, lines, revenue = 0, 0, Decimal("0.00")
    while len(undone) < wanted:
        some = _slice(connection, left, min(RUNS, wanted - len(undone)))
        rows = connection.execute(
            select(Run.__table__).where(of_runs(connection, Run.run_id, some))
        ).all()
        subjects = _changed(connection, some)
        with all_or_nothing(session, _purpose(subjects), chinook):
            _Undoing(connection, chinook, rows, subjects, stream).undo_together()
        mark_undone(connection, *some)
        for run_id in some:
            del left[run_id]
        undone += some
        days += [row.day for row in rows]
        sales += sum(row.sales for row in rows)
        lines += sum(row.lines for row in rows)
        revenue += sum(row.revenue for row in rows)
    return UndoResult(
        None,
        None,
        min(days),
        sales,
        lines,
        revenue,
        existed=False,
        witness=undone[0],
        runs=tuple(undone),
        left=len(left),
    )


def _slice(connection: Connection, left: dict[str, int], most: int) -> list[str]:
    """Return the runs to be undone next: the latest, and those of the others that changed them."""
    some: list[str] = []
    sales = 0
    for run_id, made in left.items():
        if some and (len(some) == most or sales + made > SALES):
            break
        some.append(run_id)
        sales += made
    # Their order is that of the clock when their transactions began, which may be another than
    # that of their changes.
    while True:
        others = {row.run_id for row in changed_by(connection, some)}
        more = [run_id for run_id in left if run_id in others]
        if not more:
            return some
        some += more


def _undo(session: Session, connection: Connection, chinook: Chinook, row: Row[Any]) -> bool:
    """Undo a run, unless it was."""
    if row.undone_at is not None:
        return False
    subjects = _changed(connection, [row.run_id])
    if row.kind == ALIGN:
        _refuse_cancelled(connection, row)
        move_back(connection, row)
    elif subjects:
        with all_or_nothing(session, _purpose(subjects), chinook):
            undoing = _Undoing(connection, chinook, [row], subjects, _stream(row))
            # A run of a stream may be many transactions, which changed each other's sales.
            undoing.undo_together() if row.kind == LIVE else undoing.undo()
    else:
        _Undoing(connection, chinook, [row], subjects, _stream(row)).undo()
    mark_undone(connection, row.run_id)
    return True


def _refuse_cancelled(connection: Connection, row: Row[Any]) -> None:
    """Refuse where invoices that an alignment moved were cancelled since."""
    by = connection.execute(
        select(*RUN)
        .join(Change, Change.run_id == Run.run_id)
        .where(
            Change.kind == CANCELLATION,
            concerned(Change.subject_id, row.run_id),
            Run.undone_at.is_(None),
        )
    ).all()
    if by:
        raise _refused(f"{len(by)} of the invoices moved were cancelled", by, None)


def _purpose(subjects: set[str]) -> Purpose:
    if subjects - {"invoice"}:
        return "undo shop"
    return "undo changes" if subjects else "undo"


def _stream(row: Row[Any]) -> str | None:
    """Return the name of the stream that a run is of."""
    return row.key.split("/")[0] if row.kind == LIVE else None


def _changed(connection: Connection, runs: Sequence[str]) -> set[str]:
    """Return what some runs changed."""
    these = of_runs(connection, Change.run_id, runs)
    subjects = select(Change.subject).where(these, Change.subject.in_(SUBJECTS))
    return set(connection.scalars(subjects.distinct()))


def _refused(why: str, others: Sequence[Row[Any]], stream: str | None) -> UndoRefused:
    """Return the error that names the runs to be undone first; a stream's name for its runs."""
    then = "delete the changed rows by hand if they are not needed"
    if others:
        streams = (_stream(row) for row in others)
        names = dict.fromkeys(
            f"run {row.run_id[:8]}" if of in (None, stream) else of
            for row, of in zip(others, streams, strict=True)
        )
        shown = ", ".join(list(names)[:NAMED])
        more = f" and {len(names) - NAMED} more runs" if len(names) > NAMED else ""
        then = f"undo {shown}{more} first"
    return UndoRefused(f"not undone: {why} since; {then}")


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
        self._runs = runs
        self._ids = [run.run_id for run in runs]
        self._stream = stream
        self._whose, self._left_it = "the run", "it left them"
        if len(runs) > 1:
            self._whose = "the stream" if stream else "the runs"
            self._left_it = "it left them" if stream else "they left them"
        self._sales = invoices_of(connection, *self._ids)

    def undo(self) -> None:
        """Undo a run, and what it changed, if anything.

        Raises:
            UndoRefused: what it made or changed is not as it left it, or something refers to it.
        """
        self._lock_all()
        # Customers who signed up can only go when what they bought has.
        self._take_out()
        self._put_back(self._subjects)

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
        self._put_back([subject for subject in self._subjects if subject == "invoice"])
        self._take_out()
        self._put_back([subject for subject in self._subjects if subject != "invoice"])

    def _lock_all(self) -> None:
        remember(self._connection, self._chinook)
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
        makers = _Makers(connection, runs)
        if found != made:
            runs = self._left(makers, others)
        digests = _digests(connection, makers, ids)
        changed = [run for run in runs if digests[run.run_id] != run.digest]
        if changed or _amounts_changed(connection, ids):
            of_it = "'" if self._whose.endswith("s") else "'s"
            which = ""
            if changed and len(runs) > 1:
                which = f" (of run {changed[0].run_id[:8]}, day {changed[0].day})"
            raise self._refused(f"{self._whose}{of_it} sales were changed{which}", others)
        for reference in references(connection):
            sold = reference.sold
            theirs = select(func.count()).select_from(sold)
            # Not left to the foreign key: it may cascade, and take what is not the run's.
            if connection.scalar(theirs.where(sold.invoice_id.in_(ids), reference.refers)):
                raise UndoRefused(
                    f"not undone: {reference.table} refers to its sales; delete those rows first"
                )
        for model in (InvoiceLine, Invoice):
            delete_rows(connection, model, model.invoice_id.in_(ids))

    def _left(self, makers: _Makers, others: list[Row[Any]]) -> list[Row[Any]]:
        """Return the runs that have sales, all of them; where not all were deleted, refuse."""
        there = np.zeros(len(makers.runs), dtype=np.int64)
        question = select(Invoice.invoice_id).where(Invoice.invoice_id.in_(self._sales))
        for (numbers,) in _columns(self._connection, question):
            there += np.bincount(makers.of(np.array(numbers)), minlength=len(makers.runs))
        for run, left in zip(makers.runs, there.tolist(), strict=True):
            if left != run.sales and (left or others):
                whose = "the run's" if len(self._ids) == 1 else f"run {run.run_id[:8]}'s"
                gone = run.sales - left
                what = f"{run.sales} sales were" if run.sales > 1 else "1 sale was"
                raise self._refused(f"{gone} of {whose} {what} cancelled", others)
        return [run for run, left in zip(makers.runs, there.tolist(), strict=True) if left]

    def _put_back(self, subjects: Sequence[Subject]) -> None:
        if not subjects:
            return
        content = content_of(self._connection)
        for subject in subjects:
            changed = content.changed_since(self._ids, subject)
            if changed:
                raise self._refused(
                    f"{len(changed)} {subject}s that {self._whose} changed are not as "
                    f"{self._left_it} ({subject} {changed[0]})",
                    self._others(),
                )
        moved = moved_without(self._connection, *self._ids)
        if moved is not None:
            raise UndoRefused(
                f"not undone: {self._whose} cancelled invoices of the history, which was moved "
                f"since; undo run {moved[:8]} first"
            )
        if "customer" in subjects:
            self._refuse_customers_who_bought()
        for subject in subjects:
            content.put_back(self._ids, subject)
            skipped = content.unlike_before(self._ids, subject)
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
            of_runs(connection, Change.run_id, self._ids), Change.kind == SIGN_UP
        )
        theirs = Invoice.customer_id.in_(newcomers)
        bought = connection.scalar(select(func.count()).select_from(Invoice).where(theirs)) or 0
        # What was cancelled since could not be put back without them.
        cancelled = connection.execute(
            select(*RUN)
            .join(Change, Change.run_id == Run.run_id)
            .where(
                Change.kind == CANCELLATION,
                Run.undone_at.is_(None),
                ~of_runs(connection, Change.run_id, self._ids),
                customer_before(connection).in_(newcomers),
            )
        ).all()
        found = bought + len(cancelled)
        if not found:
            return
        why = f"customers who signed up in {self._whose} have bought {found} times"
        by = connection.execute(
            select(*RUN)
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

    def _refused(self, why: str, others: Sequence[Row[Any]]) -> UndoRefused:
        return _refused(why, others, self._stream)


class _Makers:
    """Which of some runs made which sale. Of one run nothing is read."""

    def __init__(self, connection: Connection, runs: Sequence[Row[Any]]) -> None:
        self.runs = runs
        if len(runs) < 2:
            return
        ranges = ranges_of(connection, [run.run_id for run in runs])
        parts = [ranges[run.run_id].array() for run in runs]
        ids = np.concatenate(parts)
        # Ids of runs that were made at the same time may take turns.
        order = np.argsort(ids, kind="stable")
        self._ids = ids[order]
        self._places = np.repeat(np.arange(len(runs)), [len(part) for part in parts])[order]

    def of(self, ids: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return the places, in `runs`, of the runs that made some sales."""
        if len(self.runs) < 2:
            return np.zeros(len(ids), dtype=np.int64)
        places: NDArray[np.int64] = self._places[np.searchsorted(self._ids, ids)]
        return places


def _digests(connection: Connection, makers: _Makers, ids: Select[Any]) -> dict[str, str]:
    """Return the digests of the sales of some runs, by run, as they are in the tables now.

    Args:
        connection: on a recognised Chinook.
        makers: the runs.
        ids: of all these sales.
    """
    sizes = select(func.count()).where(InvoiceLine.invoice_id == Invoice.invoice_id)
    sales = (
        select(
            Invoice.invoice_id,
            Invoice.customer_id,
            Invoice.invoice_date,
            sizes.scalar_subquery(),
        )
        .where(Invoice.invoice_id.in_(ids))
        .order_by(Invoice.invoice_id)
    )
    lines = (
        select(InvoiceLine.invoice_id, InvoiceLine.track_id, InvoiceLine.unit_price)
        .where(InvoiceLine.invoice_id.in_(ids))
        .order_by(InvoiceLine.invoice_id, InvoiceLine.invoice_line_id)
    )
    nothing = np.empty(0, dtype=np.int64)
    digests = [Digest(run.day) for run in makers.runs]
    starts = [datetime.combine(run.day, time()) for run in makers.runs]
    for place, (customers, moments, counts) in _by_run(_columns(connection, sales), makers):
        start = starts[place]
        seconds = [(moment - start) // timedelta(seconds=1) for moment in moments]
        digests[place].add(*map(np.array, (customers, seconds, counts)), nothing, nothing)
    for place, (tracks, prices) in _by_run(_columns(connection, lines), makers):
        cents = [int(price * 100) for price in prices]
        digests[place].add(nothing, nothing, nothing, *map(np.array, (tracks, cents)))
    return {
        run.run_id: digest.hexdigest() for run, digest in zip(makers.runs, digests, strict=True)
    }


def _by_run(
    slices: Iterator[tuple[Any, ...]], makers: _Makers
) -> Iterator[tuple[int, tuple[Any, ...]]]:
    """Cut slices of columns, of which the first is the invoice's id, into pieces of one run each.

    Yields:
        The run's place, and its piece of each other column.
    """
    for numbers, *columns in slices:
        places = makers.of(np.array(numbers))
        ends = [*(np.flatnonzero(np.diff(places)) + 1).tolist(), len(places)]
        begin = 0
        for end in ends:
            yield int(places[begin]), tuple(column[begin:end] for column in columns)
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
