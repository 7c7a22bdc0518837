"""Taking one run out again: its sales and their lines, or its moving of the history."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from typing import TYPE_CHECKING, Any

import numpy as np
from sqlalchemy import Numeric, delete, func, select, text

from chinook_sim.alignment import KIND as ALIGN
from chinook_sim.alignment import move_back
from chinook_sim.batch import Digest
from chinook_sim.errors import UndoRefused
from chinook_sim.ledger import find_run, invoices_of, mark_undone, require
from chinook_sim.models import Invoice, InvoiceLine
from chinook_sim.naming import quoted
from chinook_sim.simulate import all_or_nothing

if TYPE_CHECKING:
    from collections.abc import Iterator
    from decimal import Decimal

    from sqlalchemy import Connection, Row
    from sqlalchemy.orm import Session

__all__ = ["Undone", "undo"]

SLICE = 10_000
"""Sales looked at in one piece."""


@dataclass(frozen=True, slots=True)
class Undone:
    """What was taken out.

    Attributes:
        run_id: the run.
        kind: what it had done; see `Run`.
        day: its day.
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
    """Take one run out again, exactly: what it made goes, and everything else stays.

    The run remains in the ledger, marked, and its key is free again.

    Args:
        session: a session on a Chinook with a ledger; its transaction stays yours.
        run: the run's id, or its first characters, at least four.

    Raises:
        InvalidInput: there is no such run, or more than one.
        UndoRefused: what it made was changed since, or other rows refer to it.
        NoLedger: the database was not migrated.
        BatchFailed: the database did not take it; nothing was undone.
    """
    with all_or_nothing(session, "undo") as (connection, chinook):
        require(chinook)
        row = find_run(connection, run)
        existed = row.undone_at is not None
        if not existed:
            if row.kind == ALIGN:
                move_back(connection, row)
            else:
                _take_out(connection, row)
            mark_undone(connection, row.run_id)
        return Undone(row.run_id, row.kind, row.day, row.sales, row.lines, row.revenue, existed)


def _take_out(connection: Connection, run: Row[Any]) -> None:
    ids = invoices_of(connection, run.run_id)
    # Locked first, the lines too: from here on nobody changes them, nor comes to refer to them.
    found = 0
    for key in (InvoiceLine.invoice_line_id, Invoice.invoice_id):
        locked = select(key).where(key.class_.invoice_id.in_(ids)).with_for_update()
        found = connection.scalar(select(func.count()).select_from(locked.subquery())) or 0
    if not found:
        # All were cancelled: there is nothing to compare, and nothing to lose.
        return
    if found != run.sales:
        raise UndoRefused(
            f"not undone: {run.sales - found} of the run's {run.sales} sales were cancelled since; "
            "delete the others yourself if they shall go"
        )
    if _digest(connection, run) != run.digest or _amounts_changed(connection, run):
        raise UndoRefused(
            "not undone: the run's sales were changed since; delete them yourself if they shall go"
        )
    for table, sold, condition in _referring(connection):
        refers = text(f"EXISTS (SELECT 1 FROM {table} r WHERE {condition})")  # noqa: S608
        theirs = select(func.count()).select_from(sold).where(sold.invoice_id.in_(ids), refers)
        # Not left to the foreign key: it may cascade, and take what is not the run's.
        if connection.scalar(theirs):
            raise UndoRefused(f"not undone: {table} refers to its sales; delete those rows first")
    connection.execute(delete(InvoiceLine).where(InvoiceLine.invoice_id.in_(ids)))
    connection.execute(delete(Invoice).where(Invoice.invoice_id.in_(ids)))


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


def _referring(connection: Connection) -> list[tuple[str, Any, str]]:
    """Return what may refer to sales, Chinook's own lines aside.

    Returns:
        For each foreign key: the table it is of, the class it points at, and the condition on
        which a row `r` of that table refers to a row of the class.
    """
    models = {True: Invoice, False: InvoiceLine}
    names = {
        "invoice": quoted(connection, Invoice.__table__),
        "line": quoted(connection, InvoiceLine.__table__),
    }
    if connection.dialect.name == "postgresql":
        rows = connection.execute(_POSTGRESQL_REFERENCES, names)
    else:
        lowered = {key: name.strip('"').lower() for key, name in names.items()}
        rows = connection.execute(_SQLITE_REFERENCES, lowered)
    pairs: dict[tuple[str, str, bool], list[tuple[str, str | None]]] = defaultdict(list)
    for row in rows:
        whose = row.table_name, str(row.key), bool(row.to_invoice)
        pairs[whose].append((row.from_column, row.to_column))
    found = []
    for (table, _, to_invoice), columns in pairs.items():
        sold = models[to_invoice]
        of = quoted(connection, sold.__table__)
        (key,) = sold.__table__.primary_key.columns
        condition = " AND ".join(
            # SQLite leaves out the column that is referred to where it is the primary key.
            f"r.{theirs} = {of}.{ours or quoted(connection, key.name)}"
            for theirs, ours in columns
        )
        found.append((table, sold, condition))
    return found


_POSTGRESQL_REFERENCES = text(
    """
    SELECT CAST(CAST(c.conrelid AS regclass) AS text) AS table_name, c.oid AS key,
           quote_ident(theirs.attname) AS from_column, quote_ident(ours.attname) AS to_column,
           c.confrelid = CAST(:invoice AS regclass) AS to_invoice
      FROM pg_catalog.pg_constraint c
      CROSS JOIN LATERAL unnest(c.conkey, c.confkey) AS pair (theirs, ours)
      JOIN pg_catalog.pg_attribute theirs
        ON theirs.attrelid = c.conrelid AND theirs.attnum = pair.theirs
      JOIN pg_catalog.pg_attribute ours
        ON ours.attrelid = c.confrelid AND ours.attnum = pair.ours
     WHERE c.contype = 'f'
       AND c.confrelid IN (CAST(:invoice AS regclass), CAST(:line AS regclass))
       AND c.conrelid <> CAST(:line AS regclass)
    """
)

_SQLITE_REFERENCES = text(
    """
    SELECT '"' || replace(m.name, '"', '""') || '"' AS table_name, f.id AS key,
           '"' || replace(f."from", '"', '""') || '"' AS from_column,
           '"' || replace(f."to", '"', '""') || '"' AS to_column,
           lower(f."table") = :invoice AS to_invoice
      FROM sqlite_master m, pragma_foreign_key_list(m.name) f
     WHERE m.type = 'table' AND lower(f."table") IN (:invoice, :line) AND lower(m.name) <> :line
    """
)
