"""Foreign keys that refer to sales, of tables that are not Chinook's."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING, Any, NamedTuple

from sqlalchemy import Boolean, exists, literal_column, select

from chinook_sim.database.backends import backend_for
from chinook_sim.database.identifiers import quoted
from chinook_sim.errors import BatchFailed
from chinook_sim.models import Invoice, InvoiceLine

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sqlalchemy import ColumnElement, Connection, Row

__all__ = ["Reference", "references", "referred", "referring_tables"]


class Reference(NamedTuple):
    """One foreign key.

    Attributes:
        table: the table it is of, as SQL.
        sold: what it points at: the class Invoice or InvoiceLine.
        condition: on which a row `r` of that table refers to a row of the class, as SQL.
    """

    table: str
    sold: Any
    condition: str

    @property
    def refers(self) -> ColumnElement[bool]:
        """The condition on a row of the class that a row of the table refers to it."""
        theirs = f"SELECT 1 FROM {self.table} r WHERE {self.condition}"  # noqa: S608
        return literal_column(f"EXISTS ({theirs})", Boolean)


def referred(found: list[Reference]) -> list[ColumnElement[bool]]:
    """Return the conditions on an invoice that something refers to it, or to one of its lines."""
    conditions = []
    for reference in found:
        if reference.sold is Invoice:
            conditions.append(reference.refers)
        else:
            of_it = InvoiceLine.invoice_id == Invoice.invoice_id
            lines = select(InvoiceLine.invoice_line_id).where(of_it, reference.refers)
            conditions.append(exists(lines.correlate(Invoice)))
    return conditions


def references(connection: Connection) -> list[Reference]:
    """Return what may refer to sales, Chinook's own lines aside.

    Raises:
        BatchFailed: rows that refer to a sale may be hidden by row-level security, and would be
            deleted or changed together with it.
    """
    models = {True: Invoice, False: InvoiceLine}
    pairs: dict[tuple[str, str, bool], list[tuple[str, str | None]]] = defaultdict(list)
    for row in _foreign_keys(connection):
        if row.hidden:
            raise BatchFailed(
                f"nothing was written: row-level security on {row.table_name} may hide rows that "
                "refer to sales and would be deleted or changed with them; use a role with "
                "BYPASSRLS"
            )
        if row.own:
            continue
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
        found.append(Reference(table, sold, condition))
    return found


def referring_tables(connection: Connection) -> list[tuple[str, str]]:
    """Return the tables that may refer to sales, as SQL, each with its schema; of PostgreSQL."""
    rows = _foreign_keys(connection)
    return list(dict.fromkeys((row.schema, row.table_name) for row in rows if not row.own))


def _foreign_keys(connection: Connection) -> Sequence[Row[Any]]:
    """Return the columns of all foreign keys that point at sales, as rows."""
    backend = backend_for(connection)
    return backend.foreign_keys_to(connection, Invoice.__table__, InvoiceLine.__table__)
