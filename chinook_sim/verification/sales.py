"""Reading sales as arrays, in the order of their ids, a slice at a time.

The statements, and the arithmetic of digests and fingerprints, are the checks' own: what makes
sales is not used here. See `chinook_sim.sales.fingerprints` for what a fingerprint is.
"""

from __future__ import annotations

import hashlib
import json
from datetime import datetime
from typing import TYPE_CHECKING, Any

import numpy as np

from chinook_sim.database.identifiers import plain, quoted
from chinook_sim.models import Invoice, InvoiceLine
from chinook_sim.verification.dialect import dialect_of, executable
from chinook_sim.verification.sale_columns import Sales, integers

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from numpy.typing import NDArray
    from sqlalchemy import Connection, Row

__all__ = ["kept_sales", "read_sales", "stream"]

CHUNK_LINES = 10_000
"""Invoices in a slice."""

_EPOCH = datetime(1970, 1, 1)  # noqa: DTZ001

_BILLING = tuple(
    Invoice.__table__.c[f"Billing{name}"].name
    for name in ("Address", "City", "State", "Country", "PostalCode")
)


def read_sales(
    connection: Connection, scope: str = "", parameters: Mapping[str, Any] | None = None
) -> Iterator[Sales]:
    """Yield sales as they are in the tables, in the order of their ids.

    Args:
        connection: on a recognised Chinook.
        scope: a SELECT of the ids of the invoices to read; all of them if empty.
        parameters: of the scope.
    """
    statements = _Statements(connection)
    lines = _Lines(stream(connection, statements.lines(scope), parameters))
    known: dict[tuple[str | None, ...], int] = {}
    for rows in stream(connection, statements.invoices(scope), parameters):
        ids, customers, moments, exact, totals, *billing = zip(*rows, strict=True)
        if len(billing) > 1:
            codes = [_billing(known, fields) for fields in zip(*billing, strict=True)]
        else:
            codes = list(billing[0])
        columns = [integers(column) for column in (ids, customers, moments, exact, totals, codes)]
        yield Sales._make([*columns, *lines.of(columns[0])])


def stream(
    connection: Connection,
    statement: str,
    parameters: Mapping[str, Any] | None = None,
    *,
    size: int = CHUNK_LINES,
) -> Iterator[Sequence[Row[Any]]]:
    """Yield the rows of a result in slices, without holding all of them."""
    # Closed as well where the last rows are never asked for.
    with connection.execute(
        executable(connection, statement),
        dict(parameters or {}),
        execution_options={"yield_per": size},
    ) as answer:
        # Without the size, SQLite's rows come one by one.
        yield from answer.partitions(size)


class _Lines:
    """The lines of invoices, which are asked for in the order of the invoices' ids."""

    def __init__(self, slices: Iterator[Sequence[Row[Any]]]) -> None:
        self._slices = slices
        # Invoice, track, price and quantity of lines that were read and not yet asked for.
        self._rest = np.empty((4, 0), dtype=np.int64)

    def of(self, ids: NDArray[np.int64]) -> tuple[NDArray[np.int64], ...]:
        """Return offsets, tracks, prices and quantities of the lines of the next invoices."""
        parts = [self._rest]
        while not parts[-1].shape[1] or parts[-1][0, -1] <= ids[-1]:
            rows = next(self._slices, None)
            if rows is None:
                break
            parts.append(np.array([integers(column) for column in zip(*rows, strict=True)]))
        lines = np.concatenate(parts, axis=1)
        end = int(np.searchsorted(lines[0], ids[-1], side="right"))
        lines, self._rest = lines[:, :end], lines[:, end:]
        # Where no foreign key holds, there may be lines without an invoice.
        place = np.searchsorted(ids, lines[0])
        whose = ids[place] == lines[0]
        sizes = np.bincount(place[whose], minlength=len(ids))
        offsets = np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)
        return offsets, *lines[1:, whose]


class _Statements:
    """The SELECTs, in the names and the dialect of the database at hand."""

    def __init__(self, connection: Connection) -> None:
        dialect = dialect_of(connection)
        invoice, line = Invoice.__table__, InvoiceLine.__table__

        def spell(alias: str, name: str) -> str:
            return f"{alias}.{quoted(connection, name)}"

        self._invoice, self._line = quoted(connection, invoice), quoted(connection, line)
        self._id = spell("i", invoice.c.InvoiceId.name)
        self._owner = spell("l", line.c.InvoiceId.name)
        date = spell("i", invoice.c.InvoiceDate.name)
        self._columns = [
            self._id,
            dialect.integer(spell("i", invoice.c.CustomerId.name)),
            dialect.seconds(date),
            f"CASE WHEN {dialect.in_whole_seconds(date)} THEN 1 ELSE 0 END",
            dialect.rounded(f"{spell('i', invoice.c.Total.name)} * 100"),
            *dialect.billing([spell("i", name) for name in _BILLING]),
        ]
        self._line_columns = [
            self._owner,
            dialect.integer(spell("l", line.c.TrackId.name)),
            dialect.rounded(f"{spell('l', line.c.UnitPrice.name)} * 100"),
            dialect.integer(spell("l", line.c.Quantity.name)),
        ]
        self._order = f"{self._owner}, {spell('l', line.c.InvoiceLineId.name)}"

    def invoices(self, scope: str) -> str:
        """Return the statement for invoices."""
        where = f" WHERE {self._id} IN ({scope})" if scope else ""
        columns = ", ".join(self._columns)
        return f"SELECT {columns} FROM {self._invoice} i{where} ORDER BY {self._id}"  # noqa: S608

    def lines(self, scope: str) -> str:
        """Return the statement for their lines."""
        where = f" WHERE {self._owner} IN ({scope})" if scope else ""
        columns = ", ".join(self._line_columns)
        return f"SELECT {columns} FROM {self._line} l{where} ORDER BY {self._order}"  # noqa: S608


def kept_sales(connection: Connection, kept: Sequence[str]) -> Sales:
    """Return sales as the ledger has kept them before a change, without those it cannot read.

    Args:
        connection: on a recognised Chinook.
        kept: the JSON of `Change.before` of each, in the order of their ids.
    """
    invoice, line = Invoice.__table__.c, InvoiceLine.__table__.c
    number, customer, date, total, owned, track, price, quantity = (
        _key(connection, column.name)
        for column in (
            invoice.InvoiceId,
            invoice.CustomerId,
            invoice.InvoiceDate,
            invoice.Total,
            line.InvoiceLineId,
            line.TrackId,
            line.UnitPrice,
            line.Quantity,
        )
    )
    address = [_key(connection, name) for name in _BILLING]
    known: dict[tuple[str | None, ...], int] = {}
    sales: list[tuple[int, ...]] = []
    lines: list[tuple[int, int, int]] = []
    for document in kept:
        try:
            content = json.loads(document)
            (row,) = content["Invoice"]
            moment = datetime.fromisoformat(row[date]).replace(tzinfo=None)
            of_it = [
                (int(it[track]), round(float(it[price]) * 100), int(it[quantity]))
                for it in sorted(content["InvoiceLine"], key=lambda it: int(it[owned]))
            ]
            sale = (
                int(row[number]),
                int(row[customer]),
                int((moment - _EPOCH).total_seconds() // 1),
                int(moment.microsecond == 0),
                round(float(row[total]) * 100),
                _billing(known, [row[name] for name in address]),
                len(of_it),
            )
        except (KeyError, TypeError, ValueError):
            continue
        sales.append(sale)
        lines += of_it
    *columns, sizes = integers(sales).reshape(-1, 7).T
    tracks, prices, quantities = integers(lines).reshape(-1, 3).T
    offsets = np.concatenate([[0], np.cumsum(sizes)])
    return Sales._make([*columns, offsets, tracks, prices, quantities])


def _key(connection: Connection, name: str) -> str:
    """Return a column's name as a key of the JSON that the ledger keeps."""
    return plain(connection, name)


def _billing(known: dict[tuple[str | None, ...], int], fields: Sequence[str | None]) -> int:
    """Return the four bytes of a billing address in a fingerprint, as a number."""
    address = tuple(fields)
    if address not in known:
        joined = "".join("\x1e\x1f" if field is None else f"{field}\x1f" for field in address)
        if len(known) > CHUNK_LINES:
            known.clear()
        known[address] = int.from_bytes(hashlib.sha256(joined.encode()).digest()[:4], "big")
    return known[address]
