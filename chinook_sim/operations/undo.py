"""Undoing runs: deleting their sales, restoring what they changed, or moving the history back.

One run is undone by itself. The runs of a stream, a day or a backfill are undone in slices of many
runs, the latest first, each slice as if it were one run. So neither the number of statements nor
memory grows with the number of runs.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from sqlalchemy import select

from chinook_sim.database.transactions import all_or_nothing
from chinook_sim.dates import check_day
from chinook_sim.errors import InvalidInput
from chinook_sim.integers import check_integer
from chinook_sim.kinds import SUBJECTS, ChangeKind, RunKind
from chinook_sim.ledger.invoice_ranges import changed_by, of_runs, run_contains_invoice
from chinook_sim.ledger.keys import require_ledger
from chinook_sim.ledger.listing import find_key, find_run, find_runs, in_backfill, of_day
from chinook_sim.ledger.recording import mark_undone
from chinook_sim.ledger.streams import may_be_stream, runs_of_stream, stream_in, stream_of
from chinook_sim.models import Change, Run
from chinook_sim.operations.align import move_back
from chinook_sim.operations.undo_runs import RUN_LABEL_COLUMNS, RunUndoing, refused

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import date

    from sqlalchemy import Connection, Row
    from sqlalchemy.orm import Session

    from chinook_sim.database.privileges import Purpose
    from chinook_sim.database.schema import Chinook

__all__ = ["UndoResult", "undo"]

SLICE_RUNS = 1_000
"""Runs that are undone in one slice."""

SLICE_SALES = 500_000
"""Sales after which a slice ends: 16 bytes of memory for each."""


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
        probe_run_id: a run whose state shows whether the undo was committed, if the answer to
            COMMIT is lost; for a stream that was undone before, the name of the stream.
        runs: the ids of the runs that were undone now, the latest first.
        left: how many of the selected runs are still active, because of `limit`.
    """

    run_id: str | None
    kind: str | None
    day: date
    sales: int
    lines: int
    revenue: Decimal
    existed: bool
    probe_run_id: str
    runs: tuple[str, ...] = ()
    left: int = 0

    def __repr__(self) -> str:
        """Show a line, and not the ids of the runs, of which there may be thousands."""
        runs = f"{len(self.runs)} run{'' if len(self.runs) == 1 else 's'}"
        sales = f"{self.sales} sale{'' if self.sales == 1 else 's'}"
        left = f", {self.left} left" if self.left else ""
        return f"<UndoResult {runs}, {sales}{left}{', existed' if self.existed else ''}>"


def undo(
    session: Session,
    run: str | None = None,
    *,
    key: str | None = None,
    day: date | None = None,
    backfill: tuple[date, date] | None = None,
    limit: int | None = None,
) -> UndoResult:
    """Undo runs exactly: delete what they made and restore what they changed.

    All else stays. The runs remain in the ledger, marked as undone, and their keys are free again.
    Either all of the runs are undone or none. Give exactly one of run, key, day and backfill.

    Args:
        session: a session on a Chinook with a ledger. Its transaction stays yours.
        run: the run's id, or its first characters, at least four; or its key; or the name of a
            stream, such as `live-3f9a1c2e`, all of whose runs are undone.
        key: the run's key, such as `once:2026-01-05`.
        day: all runs of this day; of a stream, the transactions of this day. An alignment is a run
            of no day.
        backfill: the first and the last day of a range: all runs that `backfill` made of these
            days, which include those of `once=True`.
        limit: undo at most about this many runs, the latest ones; `left` says how many remain.
            Use it to undo a range in several transactions.

    Raises:
        InvalidInput: there is no such run, or more than one; not exactly one way to select runs
            is given; or an argument is of the wrong type or out of range.
        UndoRefused: what the runs made was changed by others since, or other rows refer to it.
        NoLedger: the database was not migrated.
        NotAChinook: the database holds no Chinook.
        BatchFailed: the database refused it. Nothing was undone.
    """
    ways = {"run": run, "key": key, "day": day, "backfill": backfill}
    given = [name for name, value in ways.items() if value is not None]
    if len(given) != 1:
        raise InvalidInput(
            "undo takes exactly one of run, key, day and backfill, got "
            f"{' and '.join(given) or 'none'}"
        )
    if limit is not None:
        limit = check_integer("limit", limit, 1)
    for name, value in (("run", run), ("key", key)):
        if value is not None and not isinstance(value, str):
            raise InvalidInput(f"{name} must be a string, got {value!r}")
    if backfill is not None and (not isinstance(backfill, tuple | list) or len(backfill) != 2):
        raise InvalidInput(f"backfill must be the first and the last day, got {backfill!r}")
    for it in (*(backfill or ()), *([] if day is None else [day])):
        check_day(it)
    if backfill and backfill[1] < backfill[0]:
        raise InvalidInput(
            f"the last day, {backfill[1]}, is before the first, {backfill[0]}; swap them"
        )
    with all_or_nothing(session, "undo") as (connection, chinook):
        require_ledger(chinook)
        if day is not None:
            chosen, what = of_day(day), f"no run has the day {day}"
        elif backfill:
            chosen = in_backfill(*backfill)
            what = f"no day from {backfill[0]} to {backfill[1]} was made by backfill or with once"
        elif run is not None and may_be_stream(run.lower()):
            return _undo_stream(session, connection, chinook, run.lower(), limit)
        else:
            row = find_key(connection, str(key)) if run is None else find_run(connection, run)
            existed = not _undo(session, connection, chinook, row)
            made = (row.sales, row.lines, row.revenue)
            runs = () if existed else (row.run_id,)
            return UndoResult(row.run_id, row.kind, row.day, *made, existed, row.run_id, runs)
        found = find_runs(connection, *chosen)
        if found.active:
            return _undo_all(session, connection, chinook, found.active, limit)
        if found.undone is None or found.total is None:
            raise InvalidInput(f"{what}; `chinook-sim status` lists the runs")
        total = found.total
        made = (total.sales, total.lines, total.revenue)
        return UndoResult(None, None, total.day, *made, existed=True, probe_run_id=found.undone)


def _undo_stream(
    session: Session, connection: Connection, chinook: Chinook, name: str, limit: int | None
) -> UndoResult:
    """Undo the active runs of a stream, a slice at a time, the latest first."""
    all_of_it = stream_of(connection, name)
    active_runs = runs_of_stream(connection, name)
    if not active_runs:
        return UndoResult(name, RunKind.LIVE, *all_of_it[1:], existed=True, probe_run_id=name)
    made = _undo_all(session, connection, chinook, active_runs, limit, name)
    return replace(made, run_id=name, kind=RunKind.LIVE, day=all_of_it.day)


def _undo_all(
    session: Session,
    connection: Connection,
    chinook: Chinook,
    active_runs: Sequence[Row[Any]],
    limit: int | None,
    stream: str | None = None,
) -> UndoResult:
    """Undo active runs, a slice at a time.

    Args:
        session: whose transaction it is.
        connection: its connection.
        chinook: what was recognised.
        active_runs: run_id and sales of each, the latest first.
        limit: the number of runs after which it ends, if not with the last.
        stream: the stream that all of them are of, if they are.

    Raises:
        UndoRefused: as for `undo`.
    """
    left = {row.run_id: row.sales for row in active_runs}
    wanted = len(left) if limit is None else min(limit, len(left))
    if wanted < len(left):
        # Before anything is committed: what would prevent a later slice.
        later = changed_by(connection, list(left))
        if later:
            raise refused("what the runs made or changed was changed", later, stream)
    undone: list[str] = []
    days: list[date] = []
    sales, lines, revenue = 0, 0, Decimal("0.00")
    while len(undone) < wanted:
        some = _slice(connection, left, min(SLICE_RUNS, wanted - len(undone)))
        rows = connection.execute(
            select(Run.__table__).where(of_runs(connection, Run.run_id, some))
        ).all()
        subjects = _changed(connection, some)
        with all_or_nothing(session, _purpose(subjects), chinook):
            RunUndoing(connection, chinook, rows, subjects, stream).undo_together()
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
        probe_run_id=undone[0],
        runs=tuple(undone),
        left=len(left),
    )


def _slice(connection: Connection, left: dict[str, int], most: int) -> list[str]:
    """Return the runs to be undone next: the latest, and those of the others that changed them."""
    some: list[str] = []
    sales = 0
    for run_id, made in left.items():
        if some and (len(some) == most or sales + made > SLICE_SALES):
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
    if row.kind == RunKind.ALIGN:
        _refuse_cancelled(connection, row)
        move_back(connection, row)
    elif subjects:
        with all_or_nothing(session, _purpose(subjects), chinook):
            undoing = RunUndoing(connection, chinook, [row], subjects, stream_in(row))
            # A run of a stream may be many transactions, which changed each other's sales.
            undoing.undo_together() if row.kind == RunKind.LIVE else undoing.undo()
    else:
        RunUndoing(connection, chinook, [row], subjects, stream_in(row)).undo()
    mark_undone(connection, row.run_id)
    return True


def _refuse_cancelled(connection: Connection, row: Row[Any]) -> None:
    """Refuse where invoices that an alignment moved were cancelled since."""
    by = connection.execute(
        select(*RUN_LABEL_COLUMNS)
        .join(Change, Change.run_id == Run.run_id)
        .where(
            Change.kind == ChangeKind.CANCELLATION,
            run_contains_invoice(Change.subject_id, row.run_id),
            Run.undone_at.is_(None),
        )
    ).all()
    if by:
        raise refused(f"{len(by)} of the invoices moved were cancelled", by, None)


def _purpose(subjects: set[str]) -> Purpose:
    if subjects - {"invoice"}:
        return "undo customers and prices"
    return "undo changes" if subjects else "undo"


def _changed(connection: Connection, runs: Sequence[str]) -> set[str]:
    """Return what some runs changed."""
    these = of_runs(connection, Change.run_id, runs)
    subjects = select(Change.subject).where(these, Change.subject.in_(SUBJECTS))
    return set(connection.scalars(subjects.distinct()))
