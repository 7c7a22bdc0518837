"""The digests of the sales of many runs, read at once."""

from __future__ import annotations

from datetime import datetime, time, timedelta
from typing import TYPE_CHECKING, Any

import numpy as np
from sqlalchemy import Numeric, func, select

from chinook_sim.ledger.invoice_ranges import ranges_of
from chinook_sim.models import Invoice, InvoiceLine
from chinook_sim.sales.digest import Digest

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray
    from sqlalchemy import Connection, Row, Select


__all__ = ["RunMakers", "amounts_changed", "number_columns", "run_digests"]

FETCH_ROWS = 10_000
"""Sales looked at in one piece."""


class RunMakers:
    """Which of some runs made which sale. Of one run nothing is read."""

    def __init__(self, connection: Connection, runs: Sequence[Row[Any]]) -> None:
        self.runs = runs
        if len(runs) < 2:
            return
        ranges = ranges_of(connection, [run.run_id for run in runs])
        parts = [ranges[run.run_id].array() for run in runs]
        ids = np.concatenate(parts)
        # Ids of runs that were made at the same time may take turns.
        order = np.argsort(ids, kind="stable")
        self._ids = ids[order]
        self._places = np.repeat(np.arange(len(runs)), [len(part) for part in parts])[order]

    def of(self, ids: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return the places, in `runs`, of the runs that made some sales."""
        if len(self.runs) < 2:
            return np.zeros(len(ids), dtype=np.int64)
        places: NDArray[np.int64] = self._places[np.searchsorted(self._ids, ids)]
        return places


def run_digests(connection: Connection, makers: RunMakers, ids: Select[Any]) -> dict[str, str]:
    """Return the digests of the sales of some runs, by run, as they are in the tables now.

    Args:
        connection: on a recognised Chinook.
        makers: the runs.
        ids: the ids of all these sales.
    """
    sizes = select(func.count()).where(InvoiceLine.invoice_id == Invoice.invoice_id)
    sales = (
        select(
            Invoice.invoice_id,
            Invoice.customer_id,
            Invoice.invoice_date,
            sizes.scalar_subquery(),
        )
        .where(Invoice.invoice_id.in_(ids))
        .order_by(Invoice.invoice_id)
    )
    lines = (
        select(InvoiceLine.invoice_id, InvoiceLine.track_id, InvoiceLine.unit_price)
        .where(InvoiceLine.invoice_id.in_(ids))
        .order_by(InvoiceLine.invoice_id, InvoiceLine.invoice_line_id)
    )
    nothing = np.empty(0, dtype=np.int64)
    digests = [Digest(run.day) for run in makers.runs]
    starts = [datetime.combine(run.day, time()) for run in makers.runs]
    for place, (customers, moments, counts) in _by_run(number_columns(connection, sales), makers):
        start = starts[place]
        seconds = [(moment - start) // timedelta(seconds=1) for moment in moments]
        digests[place].add(*map(np.array, (customers, seconds, counts)), nothing, nothing)
    for place, (tracks, prices) in _by_run(number_columns(connection, lines), makers):
        cents = [int(price * 100) for price in prices]
        digests[place].add(nothing, nothing, nothing, *map(np.array, (tracks, cents)))
    return {
        run.run_id: digest.hexdigest() for run, digest in zip(makers.runs, digests, strict=True)
    }


def _by_run(
    slices: Iterator[tuple[Any, ...]], makers: RunMakers
) -> Iterator[tuple[int, tuple[Any, ...]]]:
    """Cut slices of columns, of which the first is the invoice's id, into pieces of one run each.

    Yields:
        The run's place, and its piece of each other column.
    """
    for numbers, *columns in slices:
        places = makers.of(np.array(numbers))
        ends = [*(np.flatnonzero(np.diff(places)) + 1).tolist(), len(places)]
        begin = 0
        for end in ends:
            yield int(places[begin]), tuple(column[begin:end] for column in columns)
            begin = end


def amounts_changed(connection: Connection, ids: Select[Any]) -> bool:
    """Return whether quantities or totals, which the digest does not hold, have changed."""
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


def number_columns(connection: Connection, query: Any) -> Iterator[tuple[Any, ...]]:
    """Return the columns of an answer, a slice of its rows at a time."""
    answer = connection.execute(query, execution_options={"yield_per": FETCH_ROWS})
    # Without the size, SQLite's rows come one by one.
    for rows in answer.partitions(FETCH_ROWS):
        yield tuple(zip(*rows, strict=True))
