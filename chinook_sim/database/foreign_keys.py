"""What else in a database refers to sales: foreign keys of tables that are not Chinook's."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING, Any, NamedTuple

from sqlalchemy import Boolean, exists, literal_column, select, text

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
    names = {
        "invoice": quoted(connection, Invoice.__table__),
        "line": quoted(connection, InvoiceLine.__table__),
    }
    if connection.dialect.name == "postgresql":
        return connection.execute(_POSTGRESQL_REFERENCES, names).all()
    lowered = {key: name.strip('"').lower() for key, name in names.items()}
    return connection.execute(_SQLITE_REFERENCES, lowered).all()


_POSTGRESQL_REFERENCES = text(
    """
    SELECT CAST(CAST(c.conrelid AS regclass) AS text) AS table_name, c.oid AS key,
           (SELECT CAST(CAST(t.relnamespace AS regnamespace) AS text)
              FROM pg_catalog.pg_class t WHERE t.oid = c.conrelid) AS schema,
           quote_ident(theirs.attname) AS from_column, quote_ident(ours.attname) AS to_column,
           c.confrelid = CAST(:invoice AS regclass) AS to_invoice,
           c.conrelid = CAST(:line AS regclass) AS own,
           row_security_active(c.conrelid) AND c.confdeltype IN ('c', 'n', 'd') AS hidden
      FROM pg_catalog.pg_constraint c
      CROSS JOIN LATERAL unnest(c.conkey, c.confkey) AS pair (theirs, ours)
      JOIN pg_catalog.pg_attribute theirs
        ON theirs.attrelid = c.conrelid AND theirs.attnum = pair.theirs
      JOIN pg_catalog.pg_attribute ours
        ON ours.attrelid = c.confrelid AND ours.attnum = pair.ours
     WHERE c.contype = 'f'
       AND c.confrelid IN (CAST(:invoice AS regclass), CAST(:line AS regclass))
       -- Each partition has a foreign key of its own.
       AND c.conparentid = 0
    """
)


_SQLITE_REFERENCES = text(
    """
    SELECT '"' || replace(m.name, '"', '""') || '"' AS table_name, f.id AS key,
           '"' || replace(f."from", '"', '""') || '"' AS from_column,
           '"' || replace(f."to", '"', '""') || '"' AS to_column,
           lower(f."table") = :invoice AS to_invoice, lower(m.name) = :line AS own, 0 AS hidden
      FROM sqlite_master m, pragma_foreign_key_list(m.name) f
     WHERE m.type = 'table' AND lower(f."table") IN (:invoice, :line)
    """
)
