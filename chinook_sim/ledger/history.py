"""Where an invoice comes from: the run that made it, and what the runs did to it since."""

from __future__ import annotations

import json
from dataclasses import dataclass
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Literal

from sqlalchemy import BigInteger, literal, select

from chinook_sim.database.connections import check_connection, refuse_autocommit
from chinook_sim.database.expressions import in_range
from chinook_sim.database.identifiers import plain
from chinook_sim.database.introspection import recognise
from chinook_sim.database.schema import LARGEST_ID
from chinook_sim.database.session_settings import pinned
from chinook_sim.integers import check_integer
from chinook_sim.kinds import ChangeKind
from chinook_sim.ledger.keys import require_ledger
from chinook_sim.ledger.recording import baseline
from chinook_sim.models import Change, Invoice, Run, RunInvoices
from chinook_sim.models.base import CENT

if TYPE_CHECKING:
    from datetime import date, datetime

    from sqlalchemy import Connection, Row

__all__ = ["InvoiceAlignment", "InvoiceChange", "InvoiceHistory", "InvoiceRun", "invoice_history"]


State = Literal["exists", "cancelled", "undone", "deleted", "unknown"]


Origin = Literal["run", "before the ledger", "not recorded", "unknown"]


@dataclass(frozen=True, slots=True)
class InvoiceRun:
    """A run that made or changed an invoice.

    Attributes:
        run_id: the run's id.
        kind: as in `Run`.
        key: its key, if it has one.
        day: its day.
        at: when its transaction began, by the database's clock; in SQLite in UTC.
        undone_at: when it was undone; None if it is active.
    """

    run_id: str
    kind: str
    key: str | None
    day: date
    at: datetime
    undone_at: datetime | None


@dataclass(frozen=True, slots=True)
class InvoiceChange:
    """What a run did to an invoice.

    Attributes:
        kind: `update`, a track was added; or `cancellation`, the invoice was deleted.
        run: the run that did it.
        total_before: the invoice's total before.
        total_after: the total after; None after a cancellation.
    """

    kind: str
    run: InvoiceRun
    total_before: Decimal | None
    total_after: Decimal | None


@dataclass(frozen=True, slots=True)
class InvoiceAlignment:
    """An alignment that moved the date of an invoice.

    Attributes:
        run: the alignment.
        days: by how many days.
    """

    run: InvoiceRun
    days: int


@dataclass(frozen=True, slots=True)
class InvoiceHistory:
    """What the tables and the ledger say about one invoice.

    Attributes:
        invoice_id: its id.
        state: `exists`; `cancelled`, deleted by a run; `undone`, deleted with the run that made it;
            `deleted`, by something that is not in the ledger; or `unknown`: there is no such
            invoice, and the ledger has none either.
        origin: `run`: `made_by` made it; `before the ledger`: it is older than the ledger; `not
            recorded`: it is newer, and no run made it, as with `SaleFactory.create`,
            `simulate_new_sale` or SQL of your own; or `unknown`, as `state`.
        date: its timestamp now; None if it is gone.
        total: its total now; None if it is gone.
        made_by: the run that made it. If it is gone and this run was undone, the run has
            `undone_at`.
        changes: what runs did to it, in the order in which they did it, undone runs included.
        alignments: what moved its date, in the order of their time.
    """

    invoice_id: int
    state: State
    origin: Origin
    date: datetime | None
    total: Decimal | None
    made_by: InvoiceRun | None
    changes: tuple[InvoiceChange, ...]
    alignments: tuple[InvoiceAlignment, ...]

    @property
    def cancelled_by(self) -> InvoiceRun | None:
        """The run that cancelled it, if it is cancelled."""
        active = [change.run for change in self.changes if change.run.undone_at is None]
        return active[-1] if self.state == "cancelled" else None


def invoice_history(connection: Connection, invoice_id: int) -> InvoiceHistory:
    """Return which run made an invoice, and what the runs did to it since.

    All is found by index: the cost does not depend on the number of sales.

    Args:
        connection: on a Chinook with a ledger.
        invoice_id: the invoice's id; there need not be such an invoice.

    Raises:
        InvalidInput: the id is not an integer from 0 to 2**63 - 1; or the connection is in
            AUTOCOMMIT mode, and a setting such as DateStyle or TimeZone has to be changed for a
            transaction.
        NoLedger: the database was not migrated.
        NotAChinook: the database holds no Chinook.
    """
    check_connection(connection)
    invoice_id = check_integer("an invoice id", invoice_id, 0, LARGEST_ID)
    chinook = recognise(connection)
    require_ledger(chinook)
    if chinook.unusual_settings or chinook.timezone is not None:
        # They are pinned for a transaction.
        refuse_autocommit(connection)
    with pinned(connection, chinook):
        return _history(connection, invoice_id)


def _history(connection: Connection, invoice_id: int) -> InvoiceHistory:
    # An id may be larger than the shop's columns hold.
    number = literal(invoice_id, BigInteger)
    invoice = connection.execute(
        select(
            Invoice.invoice_date.label("date"),
            Invoice.total.label("total"),
        ).where(Invoice.invoice_id == number)
    ).one_or_none()
    runs = connection.execute(
        select(Run.__table__)
        .join(RunInvoices.__table__, RunInvoices.run_id == Run.run_id)
        .where(in_range(number))
        .order_by(Run.created_at)
    ).all()
    changes = _changes(connection, invoice_id)
    # An alignment, which makes nothing, has no digest.
    makers = [_run(row) for row in runs if row.digest is not None]
    moved = [row for row in runs if row.digest is None]
    made_by = next((run for run in makers if run.undone_at is None), None)
    if made_by is None and invoice is None and makers:
        made_by = makers[-1]
    state = _state(made_by, changes, exists=invoice is not None, moved=bool(moved))
    origin: Origin = "run"
    if made_by is None:
        older = invoice_id <= baseline(connection)
        origin = "before the ledger" if older else "not recorded"
    return InvoiceHistory(
        invoice_id,
        state,
        "unknown" if state == "unknown" else origin,
        invoice.date if invoice else None,
        invoice.total if invoice else None,
        made_by,
        changes,
        tuple(InvoiceAlignment(_run(row), json.loads(row.parameters)["days"]) for row in moved),
    )


def _state(
    made_by: InvoiceRun | None,
    changes: tuple[InvoiceChange, ...],
    *,
    exists: bool,
    moved: bool,
) -> State:
    if exists:
        return "exists"
    active = [change for change in changes if change.run.undone_at is None]
    if active and active[-1].kind == ChangeKind.CANCELLATION:
        return "cancelled"
    if made_by and made_by.undone_at is not None:
        return "undone"
    return "deleted" if made_by or changes or moved else "unknown"


def _changes(connection: Connection, invoice_id: int) -> tuple[InvoiceChange, ...]:
    """Return the changes of an invoice, in the order in which they were made."""
    rows = connection.execute(
        select(Run.__table__, Change.kind.label("change"), Change.before, Change.after)
        .join(Change, Change.run_id == Run.run_id)
        .where(Change.subject == "invoice", Change.subject_id == invoice_id)
        .order_by(Change.change_id)
    )
    # As the database spells it, which is how the JSON does.
    name = plain(connection, Invoice.__table__.c.Total.name)
    return tuple(
        InvoiceChange(row.change, _run(row), _total(row.before, name), _total(row.after, name))
        for row in rows
    )


def _total(document: str | None, name: str) -> Decimal | None:
    if document is None:
        return None
    (row,) = json.loads(document, parse_float=Decimal)["Invoice"]
    return Decimal(row[name]).quantize(CENT)


def _run(row: Row[Any]) -> InvoiceRun:
    return InvoiceRun(row.run_id, row.kind, row.key, row.day, row.created_at, row.undone_at)
