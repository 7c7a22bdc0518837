"""Moving the history of a Chinook, which ended years ago, up to the present.

The history is what existed before anything was simulated. These are the invoices that existed when
the ledger was made, that belong to none of its runs, and that are dated at midnight, on days
without an invoice at another time. That holds for all invoices of every real Chinook, and for no
day of a simulator.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, replace
from datetime import date, datetime, time, timedelta
from typing import TYPE_CHECKING, Any

from sqlalchemy import func, select, update
from sqlalchemy.orm import aliased

from chinook_sim.database.backends import backend_for
from chinook_sim.database.clock import now
from chinook_sim.database.identifiers import quoted
from chinook_sim.database.transactions import all_or_nothing
from chinook_sim.dates import check_timezone
from chinook_sim.errors import BatchFailed, InvalidInput, UndoRefused
from chinook_sim.kinds import ChangeKind, RunKind
from chinook_sim.ledger.invoice_ranges import (
    invoices_of,
    made_by_active_run,
    of_runs,
    run_contains_invoice,
)
from chinook_sim.ledger.keys import find_active_run, require_ledger
from chinook_sim.ledger.recording import baseline, insert_run
from chinook_sim.ledger.request import RunRequest
from chinook_sim.models import Change, Invoice
from chinook_sim.sales.fingerprints import dated_fingerprints
from chinook_sim.sales.id_ranges import IdRanges

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from sqlalchemy import ColumnElement, Connection, Row
    from sqlalchemy.orm import Session

__all__ = ["Alignment", "align", "alignment_after_cancellation", "move_back"]

KEY = RunKind.ALIGN
"""The key of its run: a fixed one, so that only one alignment can be active."""


@dataclass(frozen=True, slots=True)
class Alignment:
    """How the history was moved, or would be moved.

    Attributes:
        days: number of days; 0 if it is already in place, or if there is no history.
        invoices: number of invoices.
        first: the first day of the history before.
        last: the last day of the history before.
        target: the day that becomes, or is, its last.
        run_id: the run in the ledger; None after a dry run, or if nothing was moved.
        existed: whether it had been moved before, and nothing was moved now.
    """

    days: int
    invoices: int
    first: date | None
    last: date | None
    target: date
    run_id: str | None = None
    existed: bool = False


def align(session: Session, *, timezone: str | None = None, dry_run: bool = False) -> Alignment:
    """Move the dates of the history so that its last day is D-2. Happens only once.

    All dates move by the same number of days. Simulated sales stay where they are. `undo` restores
    the dates exactly.

    Args:
        session: a session on a Chinook with a ledger. Its transaction stays yours.
        timezone: an IANA name. D-2 is then taken from the clock there and not from the database's.
        dry_run: only find out what would be moved.

    Raises:
        InvalidInput: there is no such time zone, or an argument is of the wrong type.
        NoLedger: the database was not migrated.
        NotAChinook: the database holds no Chinook.
        BatchFailed: the database refused it. Nothing was moved.
    """
    if timezone is not None:
        check_timezone(timezone)
    if not isinstance(dry_run, bool):
        raise InvalidInput(f"dry_run must be True or False, got {dry_run!r:.40}")
    with all_or_nothing(session, "align") as (connection, chinook):
        require_ledger(chinook)
        done = find_active_run(connection, RunKind.ALIGN, KEY)
        if done is not None:
            return _from_row(done)
        # Without a time zone, D-1 is that of CURRENT_DATE, as for `generate_d1`.
        today = chinook.today if timezone is None else now(connection, timezone).date()
        target = today - timedelta(days=2)
        history = _history(connection)
        start, end = connection.execute(
            select(func.min(Invoice.invoice_date), func.max(Invoice.invoice_date)).where(*history)
        ).one()
        first, last = (start.date(), end.date()) if start else (None, None)
        days = (target - last).days if last else 0
        dated = connection.execute(
            select(Invoice.invoice_id, Invoice.invoice_date)
            .where(*history)
            .order_by(Invoice.invoice_id)
        ).all()
        ids = [number for number, _ in dated]
        planned = Alignment(days, len(ids) if days else 0, first, last, target)
        if dry_run or not days:
            return planned
        midnight = datetime.combine(last or target, time())
        parameters = {
            "days": days,
            "first": str(first),
            "last": str(last),
            "digest": _digest(dated, timedelta(days=days)),
        }
        request = RunRequest(
            RunKind.ALIGN, target, len(ids), KEY, timezone=timezone, parameters=parameters
        )
        seconds = [(then - midnight) // timedelta(seconds=1) for _, then in dated]
        insert_run(connection, request, IdRanges.of(ids), dated_fingerprints(seconds))
        _shift(connection, request.run_id, days, str(parameters["digest"]))
        return replace(planned, run_id=request.run_id)


def _digest(dated: Iterable[Sequence[Any]], moved: timedelta = timedelta(0)) -> str:
    """Return SHA-256 of ids and dates, in the order of the ids."""
    digest = hashlib.sha256()
    for number, moment in dated:
        digest.update(f"{number} {moment + moved}\n".encode())
    return digest.hexdigest()


def _history(connection: Connection) -> list[ColumnElement[bool]]:
    """Return the conditions on an invoice to be of the history."""
    other = aliased(Invoice)
    backend = backend_for(connection)
    # Of the sales of a simulator a few are at midnight too, among others of that day.
    with_times = select(backend.day_of(other.invoice_date)).distinct()
    days = with_times.where(
        *_unrecorded(connection, other), ~backend.is_midnight(other.invoice_date)
    )
    return [
        *_unrecorded(connection, Invoice),
        backend.is_midnight(Invoice.invoice_date),
        backend.day_of(Invoice.invoice_date).not_in(days),
    ]


def _unrecorded(connection: Connection, invoice: Any) -> list[ColumnElement[bool]]:
    """Return the conditions on an invoice to be from before the ledger."""
    return [~made_by_active_run(invoice), invoice.invoice_id <= baseline(connection)]


def _shift(connection: Connection, run_id: str, days: int, expected: str) -> None:
    """Move the invoices of a run by whole days.

    Args:
        connection: in the transaction.
        run_id: the run.
        days: by how many.
        expected: the digest of their dates when they are moved.

    Raises:
        BatchFailed: a trigger or a rule did not let all be moved.
    """
    moved = backend_for(connection).shift_days(Invoice.invoice_date, days)
    ids = invoices_of(connection, run_id)
    connection.execute(
        update(Invoice).where(Invoice.invoice_id.in_(ids)).values(invoice_date=moved)
    )
    if _digest(_dated(connection, run_id)) != expected:
        raise BatchFailed(
            "the batch failed and nothing was written: a trigger or a rule on "
            f"{quoted(connection, Invoice.__table__)} skipped rows or gave them other dates; "
            "change or disable it"
        )


def _dated(connection: Connection, run_id: str) -> Sequence[Any]:
    """Return the ids and dates of the invoices of a run, in the order of the ids."""
    return connection.execute(
        select(Invoice.invoice_id, Invoice.invoice_date)
        .where(Invoice.invoice_id.in_(invoices_of(connection, run_id)))
        .order_by(Invoice.invoice_id)
    ).all()


def _from_row(run: Row[Any]) -> Alignment:
    """Return what the ledger says of an alignment."""
    parameters = json.loads(run.parameters)
    first, last = (date.fromisoformat(parameters[name]) for name in ("first", "last"))
    return Alignment(parameters["days"], run.sales, first, last, run.day, run.run_id, existed=True)


def alignment_after_cancellation(connection: Connection, *runs: str) -> str | None:
    """Return the alignment that moved the history while some runs had cancelled invoices of it.

    If these were restored, they would have the dates from before the alignment.
    """
    run = find_active_run(connection, RunKind.ALIGN, KEY, locked=False)
    if run is None:
        return None
    cancelled = select(func.count()).where(
        of_runs(connection, Change.run_id, runs),
        Change.kind == ChangeKind.CANCELLATION,
        Change.subject_id <= baseline(connection),
        ~run_contains_invoice(Change.subject_id, run.run_id),
    )
    return run.run_id if connection.scalar(cancelled) else None


def move_back(connection: Connection, run: Row[Any]) -> None:
    """Move the invoices of an alignment back to where they were.

    Raises:
        UndoRefused: some were given another date or deleted since.
    """
    parameters = json.loads(run.parameters)
    dated = _dated(connection, run.run_id)
    if _digest(dated) != parameters["digest"]:
        raise UndoRefused(
            "not undone: some of the moved invoices got another date or were deleted since, so "
            "their original dates are unknown"
        )
    back = -parameters["days"]
    _shift(connection, run.run_id, back, _digest(dated, timedelta(days=back)))
