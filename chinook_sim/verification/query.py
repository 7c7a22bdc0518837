"""What a check found, and the SQL that checks are made of, in the names of a database."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from chinook_sim.database.connections import check_connection, refuse_autocommit
from chinook_sim.database.identifiers import plain, quoted
from chinook_sim.database.introspection import recognise
from chinook_sim.database.privileges import lacking
from chinook_sim.database.session_settings import pinned
from chinook_sim.errors import DatabaseUnavailable
from chinook_sim.models import Change, Customer, Invoice, InvoiceLine, Run, RunInvoices, Track
from chinook_sim.verification.dialect import dialect_of, executable
from chinook_sim.verification.sales import stream
from chinook_sim.verification.statements import OF_LINES

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from sqlalchemy import Column, Connection, Row, Table

    from chinook_sim.database.schema import Chinook
    from chinook_sim.models import Base
    from chinook_sim.verification.differences import RunDifference

__all__ = [
    "SHOWN",
    "Check",
    "CheckQuery",
    "begun",
    "counted",
    "listed",
    "none_of",
    "take_snapshot",
]

SHOWN = 5
"""Ids that a check names."""


@dataclass(frozen=True, slots=True)
class Check:
    """The result of one check.

    Attributes:
        name: what is checked, in a few words.
        passed: whether it holds.
        figure: what was counted, as text.
        count: number of rows that are wrong, or that a remark is about; 0 for none.
        ids: up to `SHOWN` of their ids, the lowest ones; of invoices, unless `figure` names
            something else.
        remark: whether it is a remark and no failure: something that may be right, or that could
            not be checked.
        runs: the runs whose sales differ, and how.
        measured: numbers in `figure` besides `count`, by name, such as `expected`.
    """

    name: str
    passed: bool
    figure: str
    count: int = 0
    ids: tuple[int, ...] = ()
    remark: bool = False
    runs: tuple[RunDifference, ...] = ()
    measured: Mapping[str, float] = field(default_factory=dict)

    @property
    def summary(self) -> str:
        """What was counted, without what it was of each run."""
        return self.figure.partition(": ")[0] if self.runs else self.figure


def counted(count: int, singular: str, plural: str) -> str:
    """Return a count with its noun and verb: "1 invoice differs", "2 invoices differ"."""
    return f"{count:,} {singular if count == 1 else plural}"


def listed(count: int, ids: Sequence[int]) -> str:
    """Return ids as text, with an ellipsis where there are more than those given."""
    return ", ".join(map(str, ids)) + (", …" if count > len(ids) else "")


def none_of(
    name: str,
    count: int,
    ids: Sequence[int],
    singular: str,
    plural: str,
    *,
    remark: bool = False,
) -> Check:
    """Return the check that there is nothing of a kind.

    Args:
        name: of the check.
        count: how many there are.
        ids: their ids, at least the `SHOWN` lowest, rising.
        singular: what one of them is, such as "invoice differs".
        plural: what several of them are.
        remark: whether it is no failure if there are any.
    """
    shown = tuple(ids[:SHOWN])
    figure = counted(count, singular, plural) + (f": {listed(count, shown)}" if count else "")
    return Check(name, remark or not count, figure, count, shown, remark=remark)


def take_snapshot(connection: Connection) -> None:
    """Let all queries of a transaction see the same snapshot of the database.

    Args:
        connection: its transaction has not run a query yet. It becomes read-only on PostgreSQL.
    """
    check_connection(connection)
    dialect_of(connection).begin_snapshot(connection)


@contextmanager
def begun(connection: Connection) -> Iterator[Chinook]:
    """Let all checks see the database as of one moment, and recognise it.

    Raises:
        DatabaseUnavailable: the role may not read all of it, or row-level security may hide rows.
    """
    check_connection(connection)
    refuse_autocommit(connection)
    if not connection.in_transaction():
        take_snapshot(connection)
    chinook = recognise(connection)
    missing = lacking(connection, chinook, "verify")
    if missing:
        raise DatabaseUnavailable(f"missing privileges. Run: {missing}")
    if chinook.row_security:
        raise DatabaseUnavailable(chinook.hidden_rows)
    with pinned(connection, chinook):
        yield chinook


_ADDRESS_COLUMNS = ("Address", "City", "State", "Country", "PostalCode")

_SAME = {
    "same_bill": (
        "i",
        "c.after",
        Invoice,
        ("CustomerId", *(f"Billing{name}" for name in _ADDRESS_COLUMNS)),
    ),
    "same_address": ("t", "c.after", Customer, _ADDRESS_COLUMNS),
    "same_address_before": ("t", "b.before", Customer, _ADDRESS_COLUMNS),
}
"""Conditions by name: which row has what was kept where, and of which table and columns."""


class CheckQuery:
    """Runs queries about the invoices in a scope, in the names of the database.

    A query names tables and columns in braces; `r` is a run, `p` a range of its ids, `c` a
    change, `i` an invoice and `l` a line. `{made}` joins the runs `r` to the invoices `i` that they
    made; `{scope}` is the condition that `i` is in scope, and `{of_lines}` that the invoice of
    `l` is.
    """

    def __init__(
        self, connection: Connection, scope: str, parameters: Mapping[str, Any], **parts: str
    ) -> None:
        self._connection = connection
        dialect = dialect_of(connection)
        self.parameters = dialect.parameters(parameters)
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
            "track_price": Track.__table__.c.UnitPrice.name,
            "customer_id": Customer.__table__.c.CustomerId.name,
            "line_id": line.InvoiceLineId.name,
            "run": Run.__table__,
            "run_invoices": RunInvoices.__table__,
            "change": Change.__table__,
        }
        self._names = {key: quoted(connection, name) for key, name in spelled.items()}
        self._names |= _kept(connection)
        self._names |= {name: _same(connection, *of) for name, of in _SAME.items()}
        date = f"i.{self._names['date']}"
        self._names |= {
            "hour": dialect.hour(date),
            "at_midnight": dialect.at_midnight(date),
            "in_whole_seconds": dialect.in_whole_seconds(date),
            "made": dialect.made.format(**self._names),
        }
        for name, part in {"scope": scope, "of_lines": OF_LINES, **parts}.items():
            self._names[name] = part.format(**self._names)

    def sql(self, query: str) -> str:
        """Return a query as SQL."""
        return query.format(**self._names)

    def rows(self, query: str) -> Sequence[Row[Any]]:
        """Return the rows of a query."""
        statement = executable(self._connection, self.sql(query))
        return self._connection.execute(statement, self.parameters).all()

    def number(self, query: str) -> int:
        """Return the number that a query returns."""
        return int(self.rows(query)[0][0])

    def ids(self, query: str) -> tuple[int, tuple[int, ...]]:
        """Return how many ids a query finds, and the `SHOWN` lowest of them.

        Args:
            query: a SELECT of a column named `id`.
        """
        rows = self.rows(
            f"SELECT q.id, count(*) OVER () AS found FROM ({query}) q "  # noqa: S608
            f"ORDER BY q.id LIMIT {SHOWN}"
        )
        return (int(rows[0].found) if rows else 0), tuple(row.id for row in rows)

    def stream(self, query: str) -> Iterator[Sequence[Row[Any]]]:
        """Yield the rows of a query, some at a time."""
        return stream(self._connection, self.sql(query), self.parameters)

    def key(self, column: Column[Any]) -> str:
        """Return a column's name as a key of the JSON that the ledger keeps."""
        return _key(self._connection, column)

    def expect_none(
        self, name: str, query: str, singular: str, plural: str, *, remark: bool = False
    ) -> Check:
        """Check that a query for what is wrong finds nothing.

        Args:
            name: of the check.
            query: as for `ids`.
            singular: what one of them is, such as "invoice differs".
            plural: what several of them are.
            remark: whether it is no failure if there are any.
        """
        return none_of(name, *self.ids(query), singular, plural, remark=remark)


def _key(connection: Connection, column: Column[Any]) -> str:
    return plain(connection, column.name)


def _kept(connection: Connection) -> dict[str, str]:
    """Return what the ledger keeps of a changed invoice, `c.after`, as SQL by name."""
    dialect = dialect_of(connection)
    price = Track.__table__.c.UnitPrice
    rows = {
        "kept_total": ("after", Invoice.__table__.c.Total),
        "price_before": ("before", price),
        "price_after": ("after", price),
    }
    lines = {
        "kept_line_id": InvoiceLine.__table__.c.InvoiceLineId,
        "kept_line_track": InvoiceLine.__table__.c.TrackId,
        "kept_price": InvoiceLine.__table__.c.UnitPrice,
        "kept_quantity": InvoiceLine.__table__.c.Quantity,
    }
    date = Invoice.__table__.c.InvoiceDate
    of = "Invoice", _key(connection, date)
    return {
        "date_before": dialect.kept_timestamp("c.before", *of),
        "date_after": dialect.kept_instant("c.after", *of),
        "date_now": dialect.instant(f"i.{quoted(connection, date.name)}"),
        "kept_lines": dialect.kept_lines("c.after"),
        "lines_before": dialect.kept_lines("c.before"),
        **{
            name: dialect.kept_value(f"c.{when}", str(column.table.name), _key(connection, column))
            for name, (when, column) in rows.items()
        },
        **{name: dialect.line_value(_key(connection, column)) for name, column in lines.items()},
    }


def _same(
    connection: Connection, row: str, kept: str, model: type[Base], names: Sequence[str]
) -> str:
    """Return the condition that a row holds in some columns what the ledger has kept."""
    columns = [model.__table__.c[name].name for name in names]
    by_key = {plain(connection, name): quoted(connection, name) for name in columns}
    return dialect_of(connection).same(row, kept, model.__name__, by_key)
