"""Questions to a database about its sales, in SQL of their own, and what a check found."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sqlalchemy import text

from chinook_sim.models import Change, Customer, Invoice, InvoiceLine, Run, Track
from chinook_sim.naming import quoted

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from sqlalchemy import Connection, Row, Table

    from chinook_sim.models import Base

__all__ = ["Check", "Questions"]


@dataclass(frozen=True, slots=True)
class Check:
    """What one check found.

    Attributes:
        name: what is checked, in a few words.
        passed: whether it holds.
        figure: what was counted, for a person to read.
    """

    name: str
    passed: bool
    figure: str


_LIVES = ("Address", "City", "State", "Country", "PostalCode")

_SAME = {
    "same_bill": ("i", "c.after", Invoice, ("CustomerId", *(f"Billing{name}" for name in _LIVES))),
    "same_address": ("t", "c.after", Customer, _LIVES),
    "same_address_before": ("t", "b.before", Customer, _LIVES),
}
"""Conditions by name: which row has what was kept where, and of which table and columns."""


class Questions:
    """Asks about the invoices in a scope, in the names of the database at hand."""

    def __init__(
        self, connection: Connection, scope: str, parameters: Mapping[str, Any], **parts: str
    ) -> None:
        self._connection = connection
        # SQLite keeps dates as text.
        self._parameters = (
            {name: str(value) for name, value in parameters.items()}
            if connection.dialect.name == "sqlite"
            else parameters
        )
        invoice, line = Invoice.__table__.c, InvoiceLine.__table__.c
        spelled: dict[str, Table | str] = {
            "invoice": Invoice.__table__,
            "line": InvoiceLine.__table__,
            "track": Track.__table__,
            "customer": Customer.__table__,
            "invoice_id": invoice.InvoiceId.name,
            "invoice_customer": invoice.CustomerId.name,
            "date": invoice.InvoiceDate.name,
            "total": invoice.Total.name,
            "line_invoice": line.InvoiceId.name,
            "line_track": line.TrackId.name,
            "price": line.UnitPrice.name,
            "quantity": line.Quantity.name,
            "track_id": Track.__table__.c.TrackId.name,
            "customer_id": Customer.__table__.c.CustomerId.name,
            "line_id": line.InvoiceLineId.name,
            "run": Run.__table__,
            "change": Change.__table__,
        }
        self._names = {key: quoted(connection, name) for key, name in spelled.items()}
        self._names |= _kept(connection)
        self._names |= {name: _same(connection, *of) for name, of in _SAME.items()}
        self._names["hour"] = (
            "extract(hour FROM i.{date})"
            if connection.dialect.name == "postgresql"
            else "substr(i.{date}, 12, 2)"
        ).format(**self._names)
        for name, part in {"scope": scope, **parts}.items():
            self._names[name] = part.format(**self._names)

    def rows(self, question: str) -> Sequence[Row[Any]]:
        """Return the rows a question is answered with."""
        statement = text(question.format(**self._names))
        return self._connection.execute(statement, self._parameters).all()

    def number(self, question: str) -> int:
        """Return the number a question is answered with."""
        return int(self.rows(question)[0][0])

    def none(self, name: str, question: str, unit: str) -> Check:
        """Check that a question that counts what is wrong is answered with 0."""
        found = self.number(question)
        return Check(name, found == 0, f"{found} {unit}")


def _kept(connection: Connection) -> dict[str, str]:
    """Return what the ledger keeps of a changed invoice, `c.after`, as SQL by name."""
    if connection.dialect.name == "postgresql":
        row = "CAST(c.{when} AS jsonb) -> '{part}' -> 0"
        lines = "jsonb_array_elements(CAST(c.{when} AS jsonb) -> 'InvoiceLine') e"
        value, line = "CAST({of} ->> '{key}' AS numeric)", "e.value"
        ranges = "jsonb_array_elements(CAST(r.invoice_ids AS jsonb)) p"
        bound = "CAST(p.value ->> {place} AS bigint)"
    else:
        row = "c.{when}, '$.{part}[0]"
        lines = "json_each(c.{when}, '$.InvoiceLine') e"
        value, line = "json_extract({of}.{key}')", "e.value, '$"
        ranges = "json_each(r.invoice_ids) p"
        bound = "json_extract(p.value, '$[{place}]')"
    price = Track.__table__.c.UnitPrice
    columns = {
        "kept_total": (row.format(when="after", part="Invoice"), Invoice.__table__.c.Total),
        "price_before": (row.format(when="before", part="Track"), price),
        "price_after": (row.format(when="after", part="Track"), price),
        "kept_line_id": (line, InvoiceLine.__table__.c.InvoiceLineId),
        "kept_line_track": (line, InvoiceLine.__table__.c.TrackId),
        "kept_price": (line, InvoiceLine.__table__.c.UnitPrice),
        "kept_quantity": (line, InvoiceLine.__table__.c.Quantity),
    }
    date = quoted(connection, Invoice.__table__.c.InvoiceDate.name).strip('"')
    of = row.format(when="before", part="Invoice")
    return {
        "date_before": (
            f"CAST({of} ->> '{date}' AS timestamp)"
            if connection.dialect.name == "postgresql"
            else f"json_extract({of}.{date}')"
        ),
        "kept_lines": lines.format(when="after"),
        "lines_before": lines.format(when="before"),
        "ids_of_run": ranges,
        **{name: bound.format(place=place) for place, name in enumerate(("first", "last", "step"))},
    } | {
        name: value.format(of=of, key=quoted(connection, column.name).strip('"'))
        for name, (of, column) in columns.items()
    }


def _same(
    connection: Connection, row: str, kept: str, model: type[Base], names: Sequence[str]
) -> str:
    """Return the condition that a row holds in some columns what the ledger has kept."""
    columns = {name: quoted(connection, model.__table__.c[name].name) for name in names}
    keys = {name: column.strip('"') for name, column in columns.items()}
    if connection.dialect.name == "postgresql":
        # Both as JSON, in which NULL equals NULL; taken apart once, not once a column.
        pairs = ", ".join(f"'{keys[name]}', {row}.{columns[name]}" for name in names)
        return f"CAST({kept} AS jsonb) -> '{model.__name__}' -> 0 @> jsonb_build_object({pairs})"
    return " AND ".join(
        f"{row}.{columns[name]} IS json_extract({kept}, '$.{model.__name__}[0].{keys[name]}')"
        for name in names
    )
