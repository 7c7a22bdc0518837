"""SQLite: the driver's executemany, a slice at a time."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from chinook_sim.models import Invoice, InvoiceLine
from chinook_sim.naming import quoted
from chinook_sim.writers.ids import allocate
from chinook_sim.writers.rows import numbered, timestamps

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from sqlalchemy import Connection

    from chinook_sim.batch import IdRanges, SalePlan
    from chinook_sim.naming import Chinook

__all__ = ["SqliteWriter"]


class SqliteWriter:
    """Writes on a connection whose transaction already holds SQLite's only write lock."""

    def __init__(self, connection: Connection, chinook: Chinook) -> None:
        self._connection = connection
        self._chinook = chinook

    def write(self, plan: SalePlan, lines: int, progress: Callable[[int], None]) -> IdRanges:
        """Write all sales of a plan; see `Writer.write`."""
        ids = allocate(self._connection, self._chinook, invoices=plan.count, lines=lines)
        for batch, invoice_ids, line_ids, owners in numbered(plan, *ids):
            billing = batch.catalogue.billing
            # Amounts become the floating-point numbers that SQLite's Chinooks hold: a division of
            # whole cents by 100 is the double nearest to the amount, as the literal 1.98 is.
            self._insert(
                Invoice.__table__,
                (
                    (invoice, customer, moment, *billing[position], cents / 100)
                    for invoice, customer, moment, position, cents in zip(
                        invoice_ids.tolist(),
                        batch.customer_ids.tolist(),
                        timestamps(batch),
                        batch.customers.tolist(),
                        batch.totals.tolist(),
                        strict=True,
                    )
                ),
            )
            progress(batch.count)
            self._insert(
                InvoiceLine.__table__,
                (
                    (line, invoice, track, cents / 100, 1)
                    for line, invoice, track, cents in zip(
                        line_ids.tolist(),
                        owners.tolist(),
                        batch.track_ids.tolist(),
                        batch.prices.tolist(),
                        strict=True,
                    )
                ),
            )
            progress(batch.count)
        return ids[0]

    def _insert(self, table: Any, rows: Iterable[tuple[object, ...]]) -> None:
        names = [column.name for column in table.columns]
        self._connection.exec_driver_sql(
            f"INSERT INTO {quoted(self._connection, table)} "  # noqa: S608
            f"({quoted(self._connection, *names)}) VALUES ({', '.join('?' * len(names))})",
            list(rows),
        )
