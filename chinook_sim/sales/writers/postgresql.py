"""PostgreSQL: COPY through psycopg, and INSERT … SELECT FROM unnest through any driver."""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import islice
from typing import TYPE_CHECKING, Any

import numpy as np
from sqlalchemy import ARRAY, BigInteger, String, bindparam, insert

from chinook_sim.database.copying import copying
from chinook_sim.database.identifiers import quoted, sql_text
from chinook_sim.database.skipped_rows import check_written
from chinook_sim.models import Invoice, InvoiceLine, RunInvoices
from chinook_sim.models.base import amount_text
from chinook_sim.sales.id_allocation import allocate
from chinook_sim.sales.id_ranges import IdRanges
from chinook_sim.sales.writers.slices import numbered, recorded_ranges, timestamps

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from numpy.typing import NDArray
    from sqlalchemy import Connection

    from chinook_sim.database.schema import Chinook, IdSource
    from chinook_sim.sales.batch import SaleBatch, SalePlan

__all__ = ["CopyWriter", "UnnestWriter"]

_INVOICE_COLUMNS = [column.name for column in Invoice.__table__.columns]

_LINE_COLUMNS = [column.name for column in InvoiceLine.__table__.columns]

_RANGE_COLUMNS = [column.name for column in RunInvoices.__table__.columns]

_RANGES = 50
"""Rows of the ledger in one INSERT: about 1.6 MB of fingerprints."""


class CopyWriter:
    """Streams three COPY statements, one a table, in text format.

    The sales are made again for each table, which costs far less than keeping them: memory
    does not grow with the batch. COPY writes ids into GENERATED ALWAYS columns as well.
    """

    method = "COPY"

    def __init__(self, connection: Connection, chinook: Chinook) -> None:
        self._connection = connection
        self._chinook = chinook

    def write(self, plan: SalePlan, lines: int, progress: Callable[[int], None]) -> IdRanges:
        """Write all sales of a plan; see `Writer.write`."""
        ids = allocate(self._connection, self._chinook, invoices=plan.count, lines=lines)
        # An address is escaped once a customer, not once a sale.
        billing = ["\t".join(map(_escaped, address)) for address in plan.catalogue.billing]

        def invoices() -> Iterable[str]:
            for batch, invoice_ids, _, _ in numbered(plan, *ids):
                yield _invoice_text(batch, invoice_ids.tolist(), billing)
                progress(batch.count)

        def invoice_lines() -> Iterable[str]:
            for batch, _, line_ids, owners in numbered(plan, *ids):
                yield _line_text(batch, line_ids.tolist(), owners.tolist())
                progress(batch.count)

        for table, columns, blocks, sent in (
            (Invoice.__table__, _INVOICE_COLUMNS, invoices(), plan.count),
            (InvoiceLine.__table__, _LINE_COLUMNS, invoice_lines(), lines),
        ):
            check_written(self._connection, table, self._copy(table, columns, blocks), sent)
        return ids[0]

    def record(self, run_id: str, plan: SalePlan, ids: IdRanges) -> None:
        """Write which invoices a run made; see `Writer.record`."""
        rows = (
            f"{row.run_id}\t{row.first_id}\t{row.last_id}\t{row.step}\t"
            f"\\\\x{row.fingerprints.hex()}\n"
            for row in recorded_ranges(run_id, plan, ids)
        )
        self._copy(RunInvoices.__table__, _RANGE_COLUMNS, rows)

    def add_lines(
        self, owners: NDArray[np.int64], tracks: NDArray[np.int64], prices: NDArray[np.int64]
    ) -> None:
        """Write lines of invoices that are there; see `Writer.add_lines`."""
        UnnestWriter(self._connection, self._chinook).add_lines(owners, tracks, prices)

    def _copy(self, table: Any, columns: list[str], blocks: Iterable[str]) -> int:
        """Copy rows into a table; return how many the server counted."""
        names = quoted(self._connection, *columns)
        statement = f"COPY {quoted(self._connection, table)} ({names}) FROM STDIN"
        with copying(self._connection) as cursor:
            with cursor.copy(statement) as copy:
                for block in blocks:
                    copy.write(block)
            # A closed cursor has no count any more.
            return int(cursor.rowcount)


def _invoice_text(batch: SaleBatch, ids: list[int], billing: list[str]) -> str:
    return "".join(
        f"{invoice}\t{customer}\t{moment}\t{billing[position]}\t{amount_text(cents)}\n"
        for invoice, customer, moment, position, cents in zip(
            ids,
            batch.customer_ids.tolist(),
            timestamps(batch),
            batch.customers.tolist(),
            batch.totals.tolist(),
            strict=True,
        )
    )


def _line_text(batch: SaleBatch, ids: list[int], owners: list[int]) -> str:
    return "".join(
        f"{line}\t{invoice}\t{track}\t{amount_text(cents)}\t1\n"
        for line, invoice, track, cents in zip(
            ids, owners, batch.track_ids.tolist(), batch.prices.tolist(), strict=True
        )
    )


_ESCAPES = str.maketrans({"\\": r"\\", "\t": r"\t", "\n": r"\n", "\r": r"\r"})


def _escaped(value: str | None) -> str:
    return r"\N" if value is None else value.translate(_ESCAPES)


@dataclass(frozen=True, slots=True)
class _Array:
    """One column's values, as the database is to read them."""

    values: list[Any]
    type_: BigInteger | String = field(default_factory=BigInteger)
    expression: str = "{}"

    @property
    def sql_type(self) -> str:
        return "text[]" if isinstance(self.type_, String) else "bigint[]"


class UnnestWriter:
    """Sends each slice as arrays in one statement, which every PostgreSQL driver can.

    Where identity columns give the ids and we may not call `nextval`, the ids are left to them and
    read back; that is the one case in which an id is not known before the row is written.
    """

    method = "INSERT of arrays"

    def __init__(self, connection: Connection, chinook: Chinook) -> None:
        self._connection = connection
        self._chinook = chinook

    def write(self, plan: SalePlan, lines: int, progress: Callable[[int], None]) -> IdRanges:
        """Write all sales of a plan; see `Writer.write`."""
        if self._chinook.ids_come_back:
            return self._write_and_read_back(plan, progress)
        ids = allocate(self._connection, self._chinook, invoices=plan.count, lines=lines)
        for batch, invoice_ids, line_ids, owners in numbered(plan, *ids):
            self._insert_invoices(batch, invoice_ids.tolist())
            progress(batch.count)
            self._insert_lines(line_ids.tolist(), owners, batch.track_ids, batch.prices)
            progress(batch.count)
        return ids[0]

    def record(self, run_id: str, plan: SalePlan, ids: IdRanges) -> None:
        """Write which invoices a run made; see `Writer.record`."""
        rows = recorded_ranges(run_id, plan, ids)
        while some := [row._asdict() for row in islice(rows, _RANGES)]:
            self._connection.execute(insert(RunInvoices), some)

    def add_lines(
        self, owners: NDArray[np.int64], tracks: NDArray[np.int64], prices: NDArray[np.int64]
    ) -> None:
        """Write lines of invoices that are there, in one statement; see `Writer.add_lines`."""
        ids = None
        if not self._chinook.ids_come_back:
            _, reserved = allocate(self._connection, self._chinook, invoices=0, lines=len(owners))
            ids = list(reserved)
        self._insert_lines(ids, owners, tracks, prices)

    def _write_and_read_back(self, plan: SalePlan, progress: Callable[[int], None]) -> IdRanges:
        written: list[range] = []
        for batch in plan.slices():
            # A sequence gives its ids in the order in which the rows are inserted.
            ids = sorted(self._insert_invoices(batch, None))
            progress(batch.count)
            owners = np.repeat(ids, batch.sizes)
            self._insert_lines(None, owners, batch.track_ids, batch.prices)
            progress(batch.count)
            written += IdRanges.of(ids).ranges
        return IdRanges(written)

    def _insert_invoices(self, batch: SaleBatch, ids: list[int] | None) -> list[int]:
        billing = [batch.catalogue.billing[position] for position in batch.customers.tolist()]
        return self._insert(
            Invoice.__table__,
            self._chinook.invoice_ids,
            ids,
            [
                _Array(batch.customer_ids.tolist()),
                # Naive, whatever the session's time zone: text becomes a timestamp without one.
                _Array(timestamps(batch), String(), "CAST({} AS timestamp)"),
                *(_Array(list(part), String()) for part in zip(*billing, strict=True)),
                _Array(batch.totals.tolist(), expression="{} / 100.0"),
            ],
        )

    def _insert_lines(self, ids: list[int] | None, *columns: NDArray[np.int64]) -> None:
        owners, tracks, prices = columns
        self._insert(
            InvoiceLine.__table__,
            self._chinook.line_ids,
            ids,
            [
                _Array(owners.tolist()),
                _Array(tracks.tolist()),
                _Array(prices.tolist(), expression="{} / 100.0"),
                _Array([1] * len(owners)),
            ],
        )

    def _insert(
        self, table: Any, source: IdSource, ids: list[int] | None, arrays: list[_Array]
    ) -> list[int]:
        """Insert one row for each position of the arrays; return the ids the database gave."""
        columns = [column.name for column in table.columns]
        arrays = arrays if ids is None else [_Array(ids), *arrays]
        targets = quoted(self._connection, *(columns[1:] if ids is None else columns))
        named = {f"a{position}": array for position, array in enumerate(arrays)}
        values = ", ".join(array.expression.format(name) for name, array in named.items())
        casts = ", ".join(f"CAST(:{name} AS {array.sql_type})" for name, array in named.items())
        statement = sql_text(
            f"INSERT INTO {quoted(self._connection, table)} AS r ({targets}) "  # noqa: S608
            f"{'OVERRIDING SYSTEM VALUE ' if source.always and ids is not None else ''}"
            f"SELECT {values} FROM unnest({casts}) "
            f"WITH ORDINALITY AS batch ({', '.join(named)}, position) ORDER BY position"
            + (f" RETURNING r.{quoted(self._connection, columns[0])}" if ids is None else "")
        )
        result = self._connection.execute(
            statement.bindparams(
                *(
                    bindparam(name, array.values, type_=ARRAY(array.type_))
                    for name, array in named.items()
                )
            )
        )
        given = list(result.scalars()) if ids is None else []
        written = len(given) if ids is None else result.rowcount
        check_written(self._connection, table, written, len(arrays[-1].values))
        return given
