"""What a snapshot of an invoice, a customer or a track consists of: which rows of which tables."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from chinook_sim.models import Customer, Invoice, InvoiceLine, Track

if TYPE_CHECKING:
    from chinook_sim.kinds import Subject

__all__ = ["Part", "parts_of"]


class Part(NamedTuple):
    """A table whose rows are part of a snapshot.

    Attributes:
        name: the name of its rows in the JSON.
        table: the table.
        owner: the column that says to which subject a row belongs, as `models` spells it.
        unrestored_column: a column that is not restored in existing rows, since `align` may have
            changed it.
    """

    name: str
    table: Any
    owner: str
    unrestored_column: str | None = None

    @property
    def key(self) -> str:
        """The primary key's name, not yet as the database spells it."""
        (column,) = self.table.primary_key.columns
        name: str = column.name
        return name


def _part(model: Any, owner: str, unrestored_column: str | None = None) -> Part:
    table = model.__table__
    return Part(
        model.__name__,
        table,
        table.c[owner].name,
        None if unrestored_column is None else table.c[unrestored_column].name,
    )


_PARTS: dict[Subject, tuple[Part, ...]] = {
    "invoice": (
        _part(Invoice, "InvoiceId", unrestored_column="InvoiceDate"),
        _part(InvoiceLine, "InvoiceId"),
    ),
    "customer": (_part(Customer, "CustomerId"),),
    "track": (_part(Track, "TrackId"),),
}


def parts_of(subject: Subject) -> tuple[Part, ...]:
    """Return the tables of a subject's snapshot, the one that the others refer to first."""
    return _PARTS[subject]
