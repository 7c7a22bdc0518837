"""SQLite: the driver's executemany, a slice at a time."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from chinook_sim.database.identifiers import quoted
from chinook_sim.database.skipped_rows import check_written
from chinook_sim.models import Invoice, InvoiceLine, RunInvoices
from chinook_sim.sales.id_allocation import allocate
from chinook_sim.sales.writers.slices import numbered, recorded_ranges, timestamps

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from numpy.typing import NDArray
    from sqlalchemy import Connection

    from chinook_sim.database.schema import Chinook
    from chinook_sim.sales.batch import SalePlan
    from chinook_sim.sales.id_ranges import IdRanges

__all__ = ["SqliteWriter"]


class SqliteWriter:
    """Writes on a connection whose transaction already holds SQLite's only write lock."""

    method = "INSERT of rows"

    def __init__(self, connection: Connection, chinook: Chinook) -> None:
        self._connection = connection
        self._chinook = chinook

    def write(self, plan: SalePlan, lines: int, progress: Callable[[int], None]) -> IdRanges:
        """Write all sales of a plan; see `Writer.write`."""
        ids = allocate(self._connection, self._chinook, invoices=plan.count, lines=lines)
        # Rows are put together column by column, in half the time of one by one.
        billing = [
            np.array(part, dtype=object) for part in zip(*plan.catalogue.billing, strict=True)
        ]
        for batch, invoice_ids, line_ids, owners in numbered(plan, *ids):
            # Amounts become the floating-point numbers that SQLite's Chinooks hold: a division of
            # whole cents by 100 is the double nearest to the amount, as the literal 1.98 is.
            self._insert(
                Invoice.__table__,
                invoice_ids.tolist(),
                batch.customer_ids.tolist(),
                timestamps(batch),
                *(part[batch.customers].tolist() for part in billing),
                (batch.totals / 100).tolist(),
            )
            progress(batch.count)
            self._insert_lines(line_ids, owners, batch.track_ids, batch.prices)
            progress(batch.count)
        return ids[0]

    def record(self, run_id: str, plan: SalePlan, ids: IdRanges) -> None:
        """Write which invoices a run made; see `Writer.record`."""
        self._insert_rows(RunInvoices.__table__, recorded_ranges(run_id, plan, ids))

    def add_lines(
        self, owners: NDArray[np.int64], tracks: NDArray[np.int64], prices: NDArray[np.int64]
    ) -> None:
        """Write lines of invoices that are there; see `Writer.add_lines`."""
        _, ids = allocate(self._connection, self._chinook, invoices=0, lines=len(owners))
        self._insert_lines(ids.array(), owners, tracks, prices)

    def _insert_lines(self, ids: NDArray[np.int64], *columns: NDArray[np.int64]) -> None:
        owners, tracks, prices = columns
        self._insert(
            InvoiceLine.__table__,
            ids.tolist(),
            owners.tolist(),
            tracks.tolist(),
            (prices / 100).tolist(),
            [1] * len(owners),
        )

    def _insert(self, table: Any, *columns: list[Any]) -> None:
        # `zip` makes all rows in the same tuple.
        written = self._insert_rows(table, zip(*columns, strict=True))
        check_written(self._connection, table, written, len(columns[0]))

    def _insert_rows(self, table: Any, rows: Iterable[tuple[Any, ...]]) -> int:
        """Insert rows; return how many the driver counted."""
        names = [column.name for column in table.columns]
        statement = (
            f"INSERT INTO {quoted(self._connection, table)} "  # noqa: S608
            f"({quoted(self._connection, *names)}) VALUES ({', '.join('?' * len(names))})"
        )
        # The driver's own cursor takes an iterator.
        cursor: Any = self._connection.connection.cursor()
        try:
            cursor.executemany(statement, rows)
            return int(cursor.rowcount)
        finally:
            cursor.close()
