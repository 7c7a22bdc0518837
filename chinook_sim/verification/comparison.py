"""Comparing the sales in the tables with what each run made, as the ledger says.

The sales are read once, in the order of their ids. A sale that later runs changed is compared as it
was before the first of these changes, which is in the ledger. Compared are the number of sales,
their lines and revenue, the digest of the run, and the fingerprint of each sale.
"""

from __future__ import annotations

from datetime import date, timedelta
from typing import TYPE_CHECKING, Any

import numpy as np

from chinook_sim.dates import bounds
from chinook_sim.verification.differences import Comparison, Figure, RunDifference
from chinook_sim.verification.query import CheckQuery
from chinook_sim.verification.recorded_runs import (
    FIELDS,
    LOW,
    RANGES,
    Expected,
    RangeReader,
    RecordedRun,
    date_of,
    days_of,
)
from chinook_sim.verification.run_statements import (
    ACTIVE,
    CHANGED,
    DAYS,
    MADE,
    RANGES_OF_RUNS,
    SALES_OF_DAY,
    UNDONE,
    WITHOUT_IDS,
)
from chinook_sim.verification.sale_columns import UNKNOWN, Sales
from chinook_sim.verification.sales import kept_sales, read_sales, stream

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray
    from sqlalchemy import Connection, Row

__all__ = ["compare"]


def compare(
    connection: Connection, day: date | None = None, *, baseline: int, days_back: int
) -> Comparison:
    """Compare the active runs with what is in the tables.

    Args:
        connection: on a recognised Chinook with a ledger.
        day: compare the runs that may have sales on this day; None for all runs.
        baseline: the highest id of an invoice that is older than the ledger.
        days_back: by how many days, at most, sales of any run are late.
    """
    return _Comparer(connection, day, baseline, days_back).compare()


class _Comparer:
    """Goes through sales, ranges of ids and changes together, in the order of ids."""

    def __init__(
        self, connection: Connection, day: date | None, baseline: int, days_back: int
    ) -> None:
        self._connection = connection
        self._day = day
        self._baseline = baseline
        parameters: dict[str, Any] = {}
        compared = "1 = 1"
        if day is not None:
            start, end = bounds(day)
            latest = day + min(timedelta(days=days_back), date.max - day)
            parameters = {"day": day, "latest": latest, "start": start, "end": end}
            compared = (
                "(r.day = :day OR (r.day BETWEEN :day AND :latest "
                "AND r.parameters LIKE '%\"late_days\"%'))"
            )
        self._query = CheckQuery(connection, ACTIVE, parameters, compared=compared)
        self._undone = CheckQuery(connection, UNDONE, parameters, compared=compared)
        self._checked = UNKNOWN if day is None else days_of(day)
        self._scope = "" if day is None else self._query.sql(SALES_OF_DAY)
        days = [day] if day else [date_of(row.day) for row in self._query.rows(DAYS)]
        self._days = np.array([days_of(it) for it in days], dtype=np.int64)
        self._found = Comparison()
        self._runs: dict[str, RecordedRun] = {}
        self._made: list[NDArray[np.uint64]] = [np.empty(0, dtype=np.uint64)]
        self._unmade: list[tuple[NDArray[np.int64], NDArray[np.uint64]]] = []

    def compare(self) -> Comparison:
        """Compare, and return what was found."""
        query = self._query
        ranges = RangeReader(
            self._stream(query.sql(RANGES_OF_RUNS), size=RANGES), self._runs, self._day
        )
        changed = _Changed(self._connection, self._stream(query.sql(CHANGED)))
        for sales in read_sales(self._connection, self._scope, query.parameters):
            last = int(sales.ids[-1])
            self._compare_slice(sales, ranges.upto(last), changed.upto(last))
            self._finish(last)
        self._compare_slice(Sales.none(), ranges.upto(None), changed.upto(None))
        self._finish(None)
        for row in query.rows(WITHOUT_IDS):
            self._found.runs += 1
            figures = {"invoice_ids": Figure(row.sales, 0)}
            self._found.differing.append(RunDifference(row.run_id, date_of(row.day), {}, figures))
        self._found.differing.sort(key=lambda it: (it.day, it.run_id))
        self._find_copies()
        self._find_undone()
        return self._found

    def _stream(self, statement: str, **options: int) -> Iterator[Sequence[Row[Any]]]:
        return stream(self._connection, statement, self._query.parameters, **options)

    def _compare_slice(self, sales: Sales, expected: Expected, before: Sales) -> None:
        self._sort_out(sales, expected.ids)
        made = sales.replaced(before)
        place, there = _places(made, expected.ids)
        others = np.flatnonzero(there & (expected.owners < 0))
        dated = made.moments[place[others]] // 86_400 == self._checked
        self._found.moved_here = self._found.moved_here.plus(expected.ids[others[dated]])
        # By run, and in a run in the order of ids.
        order = np.argsort(expected.owners, kind="stable")
        order = order[expected.owners[order] >= 0]
        present = order[there[order]]
        found = made.take(place[present])
        owners = expected.owners[present]
        concerned = self._concerned(expected)
        judged = concerned[present] | (found.moments // 86_400 == self._checked)
        differing = {
            kind: which & judged
            for kind, which in _differing(found, expected, present).items()
            if (which & judged).any()
        }
        for number, run in enumerate(expected.runs):
            first, end = np.searchsorted(owners, [number, number + 1])
            run.add(found, int(first), int(end))
            for kind, which in differing.items():
                run.note(kind, found.ids[first:end][which[first:end]])
        absent = order[~there[order] & concerned[order]]
        for number in np.unique(expected.owners[absent]):
            missing = expected.ids[absent[expected.owners[absent] == number]]
            expected.runs[number].note("missing", missing)

    def _concerned(self, expected: Expected) -> NDArray[np.bool_]:
        """Return whether each sale is judged: made by a run of the day, or dated on it."""
        # The last one is for those of runs that are not compared.
        whole = np.array([*(run.whole for run in expected.runs), False], dtype=bool)
        # Of a late sale that is gone only its fingerprint still knows the day.
        seconds = expected.prints["second"].astype(np.int32)
        dated = (expected.starts + seconds) // 86_400 == self._checked
        judged: NDArray[np.bool_] = whole[expected.owners] | (expected.known & dated)
        return judged

    def _sort_out(self, sales: Sales, made: NDArray[np.int64]) -> None:
        """Find the invoices that no run made, and keep what copies of sales are found by."""
        by_run = np.isin(sales.ids, made)
        keys = sales.keys
        self._made.append(keys[by_run])
        # What is older than the ledger is dated at midnight; copies of sales rarely are.
        unmade = ~by_run & ((sales.ids > self._baseline) | (sales.moments % 86_400 != 0))
        if unmade.any():
            self._unmade.append((sales.ids[unmade], keys[unmade]))
        strays = ~by_run & (sales.ids > self._baseline)
        strays &= np.isin(sales.moments // 86_400, self._days)
        self._found.strays = self._found.strays.plus(sales.ids[strays])

    def _find_copies(self) -> None:
        made = np.concatenate(self._made)
        for ids, keys in self._unmade:
            self._found.copies = self._found.copies.plus(ids[np.isin(keys, made)])

    def _find_undone(self) -> None:
        """Find the sales of undone runs among the invoices that no run made."""
        unmade = np.concatenate([np.empty(0, dtype=np.int64), *(ids for ids, _ in self._unmade)])
        if not len(unmade):
            return
        query = self._undone
        slices = stream(self._connection, query.sql(RANGES_OF_RUNS), query.parameters, size=RANGES)
        ranges = RangeReader(slices, {}, self._day)
        for sales in read_sales(self._connection, query.sql(MADE), query.parameters):
            expected = ranges.upto(int(sales.ids[-1]))
            place, there = _places(sales, expected.ids)
            present = np.flatnonzero(there & expected.known & (expected.owners >= 0))
            found = sales.take(place[present])
            differing = _differing(found, expected, present).values()
            same = np.unique(found.ids[~np.logical_or.reduce([*differing])])
            self._found.undone = self._found.undone.plus(same[np.isin(same, unmade)])

    def _finish(self, upto: int | None) -> None:
        """Conclude the runs all of whose sales have been seen."""
        done = [run for run in self._runs.values() if upto is None or run.last_id <= upto]
        for run in done:
            self._found.runs += 1
            result = run.result()
            if result is not None:
                self._found.differing.append(result)
            del self._runs[run.run_id]


class _Changed:
    """Sales as they were before the first active change, read in the order of ids."""

    def __init__(self, connection: Connection, slices: Iterator[Sequence[Row[Any]]]) -> None:
        self._connection = connection
        self._rows = (row for rows in slices for row in rows)
        self._next: Row[Any] | None = next(self._rows, None)

    def upto(self, last: int | None) -> Sales:
        """Return the next ones, up to the last id given; all that are left for None."""
        kept = []
        while self._next is not None and (last is None or self._next.id <= last):
            kept.append(self._next.kept)
            self._next = next(self._rows, None)
        return kept_sales(self._connection, kept)


def _places(sales: Sales, ids: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Return the positions of invoices among sales, and which of them are there."""
    place = np.searchsorted(sales.ids, ids)
    there = np.zeros(len(place), dtype=bool)
    inside = place < len(sales.ids)
    there[inside] = sales.ids[place[inside]] == ids[inside]
    return place, there


def _differing(
    sales: Sales, expected: Expected, place: NDArray[np.int64]
) -> dict[str, NDArray[np.bool_]]:
    """Return in what each sale differs from the sale expected at its place."""
    prints, known, starts = expected.prints[place], expected.known[place], expected.starts[place]
    customer, second, billing, lines = (prints[name].astype(np.int64) for name in FIELDS)
    # The same number modulo 2**32 may be another century.
    other_second = sales.moments - starts != second.astype(np.int32)
    sizes, was = np.minimum(sales.sizes, 7), lines & 7
    other_lines = known & (sizes == was) & (sales.checksums != lines >> 3)
    return {
        "lines_missing": known & (sizes < was),
        "lines_added": known & (sizes > was),
        "lines_changed": other_lines | sales.any_line(sales.quantities != 1),
        "customer": known & (sales.customers & LOW != customer),
        "timestamp": (known & other_second) | (sales.exact == 0),
        "billing_address": known & (sales.billing != billing),
        "total": sales.totals != sales.amounts,
    }
