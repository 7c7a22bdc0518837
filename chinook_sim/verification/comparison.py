"""Comparing the sales in the tables with what the ledger says that each run made.

The sales are read once, in the order of their ids. A sale that later runs changed is compared as it
was before the first of these changes, as the ledger has kept it. What is compared is the number of
sales, their lines and revenue, the digest of the run, and the fingerprint of each sale.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from dataclasses import dataclass, field
from datetime import date, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from chinook_sim.verification.query import SHOWN, CheckQuery, counted, listed
from chinook_sim.verification.sales import UNKNOWN, Sales, kept_sales, read_sales, stream
from chinook_sim.window import bounds

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray
    from sqlalchemy import Connection, Row

__all__ = ["Comparison", "Difference", "RunDifference", "compare"]

FIELDS = ("customer", "second", "billing", "lines")

FINGERPRINT = np.dtype([(name, ">u4") for name in FIELDS])
"""See `chinook_sim.fingerprints`."""

RANGES = 100
"""Rows of the ledger read at a time; each may have 32 kilobytes of fingerprints."""

_EPOCH = date(1970, 1, 1)

_LOW = 0xFFFFFFFF

KINDS = {
    "missing": ("sale missing", "sales missing"),
    "lines_missing": ("sale with lines missing", "sales with lines missing"),
    "lines_added": ("sale with lines added", "sales with lines added"),
    "lines_changed": ("sale with changed lines", "sales with changed lines"),
    "customer": ("sale with another customer", "sales with another customer"),
    "timestamp": ("sale with another timestamp", "sales with another timestamp"),
    "billing_address": ("sale with another billing address", "sales with another billing address"),
    "total": ("sale with another total", "sales with another total"),
}
"""What may differ, and how it is called of one sale and of several."""


@dataclass(frozen=True, slots=True)
class Difference:
    """How many sales differ in some way, and up to `SHOWN` ids of their invoices."""

    count: int = 0
    ids: tuple[int, ...] = ()

    def plus(self, ids: NDArray[np.int64]) -> Difference:
        """Return this, and other ids, which are higher."""
        return Difference(
            self.count + len(ids), (*self.ids, *ids[: SHOWN - len(self.ids)].tolist())
        )


NONE = Difference()


class Figure(NamedTuple):
    """A figure of a run as a whole: what the ledger says it is, and what was found."""

    expected: Any
    found: Any

    def told(self, name: str) -> str:
        """Return it as text, for a person to read."""
        if name == "invoice_ids":
            ids, sales = self.found, self.expected
            return (
                f"{counted(ids, 'invoice id', 'invoice ids')} in the ledger for "
                f"{counted(sales, 'sale', 'sales')}"
            )
        if name == "lines":
            return f"{counted(self.found, 'line', 'lines')} instead of {self.expected:,}"
        if name == "revenue":
            return f"revenue {self.found:,} instead of {self.expected:,}"
        return "the sales differ from its digest"


@dataclass(frozen=True, slots=True)
class RunDifference:
    """In what the sales of a run are not as it made them.

    Attributes:
        run_id: the run.
        day: its day.
        differences: by the names in `KINDS`, those that there are.
        figures: what differs of the run as a whole: `invoice_ids` (how many there are in the
            ledger), `digest`, `lines` or `revenue`.
    """

    run_id: str
    day: date
    differences: dict[str, Difference]
    figures: dict[str, Figure]

    @property
    def title(self) -> str:
        """The run, for a person to read."""
        return f"run {self.run_id[:8]} of {self.day}"

    @property
    def lines(self) -> list[str]:
        """The differences, for a person to read: one a line."""
        told = [
            f"{counted(it.count, *KINDS[name])} "
            f"({'invoice' if it.count == 1 else 'invoices'} {listed(it.count, it.ids)})"
            for name, it in self.differences.items()
        ]
        return [*told, *(it.told(name) for name, it in self.figures.items())]


@dataclass(slots=True)
class Comparison:
    """What a comparison found.

    Attributes:
        runs: how many runs were compared.
        differing: those whose sales differ.
        strays: invoices on a day of a run that no run made.
        copies: invoices that no run made, and that are the same as one that a run made.
        undone: sales of undone runs.
        moved_here: sales that are dated on the day that is compared, by runs of other days.
    """

    runs: int = 0
    differing: list[RunDifference] = field(default_factory=list)
    strays: Difference = NONE
    copies: Difference = NONE
    undone: Difference = NONE
    moved_here: Difference = NONE


@dataclass(slots=True)
class _Run:
    """A run, and what was found of its sales so far."""

    run_id: str
    day: date
    sales: int
    lines: int
    cents: int
    digest: str | None
    last_id: int
    whole: bool
    recorded: int = 0
    found_lines: int = 0
    found_cents: int = 0
    columns: list[Any] = field(default_factory=lambda: [hashlib.sha256() for _ in range(5)])
    counts: dict[str, int] = field(default_factory=lambda: defaultdict(int))
    ids: dict[str, list[int]] = field(default_factory=lambda: defaultdict(list))

    @classmethod
    def of(cls, row: Row[Any], day: date | None) -> _Run:
        """Make one of a row of `_RANGES`.

        Args:
            row: the row.
            day: the day that is checked; of a run of another one, only the sales of this day are.
        """
        return cls(
            row.run_id,
            date_of(row.day),
            row.sales,
            row.lines,
            round(row.revenue * 100),
            row.digest,
            row.last_invoice_id or 0,
            whole=day in (None, date_of(row.day)),
        )

    @property
    def start(self) -> int:
        """The beginning of its day, in seconds since 1970-01-01."""
        return days_of(self.day) * 86_400

    def note(self, kind: str, ids: NDArray[np.int64]) -> None:
        """Count sales that differ."""
        if len(ids):
            self.counts[kind] += len(ids)
            self.ids[kind] += ids[: SHOWN - len(self.ids[kind])].tolist()

    def add(self, sales: Sales, first: int, end: int) -> None:
        """Add some of the sales, by position, to the figures and the digest."""
        some, of_them = slice(first, end), slice(sales.offsets[first], sales.offsets[end])
        values = (
            sales.customers[some],
            sales.moments[some] - self.start,
            np.diff(sales.offsets[first : end + 1]),
            sales.tracks[of_them],
            sales.prices[of_them],
        )
        for column, numbers in zip(self.columns, values, strict=True):
            column.update(numbers.astype("<i8").tobytes())
        self.found_lines += len(values[3])
        self.found_cents += int(sales.totals[some].sum())

    def result(self) -> RunDifference | None:
        """Return in what the run differs; None where it does not."""
        figures = self._figures() if self.whole else {}
        differences = {
            kind: Difference(self.counts[kind], tuple(self.ids[kind]))
            for kind in KINDS
            if self.counts[kind]
        }
        if not differences and not figures:
            return None
        return RunDifference(self.run_id, self.day, differences, figures)

    def _figures(self) -> dict[str, Figure]:
        """Return the figures of the whole run in which the ledger and the tables differ."""
        digest = hashlib.sha256(self.day.isoformat().encode())
        for column in self.columns:
            digest.update(column.digest())
        figures = {}
        if self.recorded != self.sales:
            figures["invoice_ids"] = Figure(self.sales, self.recorded)
        elif not self.counts and digest.hexdigest() != self.digest:
            figures["digest"] = Figure(self.digest, digest.hexdigest())
        if self.found_lines != self.lines:
            figures["lines"] = Figure(self.lines, self.found_lines)
        if self.found_cents != self.cents:
            was, now = (Decimal(cents).scaleb(-2) for cents in (self.cents, self.found_cents))
            figures["revenue"] = Figure(was, now)
        return figures


class _Expected(NamedTuple):
    """Invoices that runs made, in the order of their ids.

    Attributes:
        ids: shape (n,).
        owners: shape (n,): the position in `runs`; -1 for a run that is not compared.
        prints: shape (n,): the fingerprints.
        known: shape (n,): whether there is a fingerprint.
        runs: the runs.
    """

    ids: NDArray[np.int64]
    owners: NDArray[np.int64]
    prints: NDArray[np.void]
    known: NDArray[np.bool_]
    runs: list[_Run]

    @property
    def starts(self) -> NDArray[np.int64]:
        """The beginning of each one's day, in seconds since 1970-01-01; 0 if not compared."""
        return np.array([*(run.start for run in self.runs), 0], dtype=np.int64)[self.owners]


def compare(
    connection: Connection, day: date | None = None, *, baseline: int, days_back: int
) -> Comparison:
    """Compare the runs that stand with what is in the tables.

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
        self._query = CheckQuery(connection, _STANDING, parameters, compared=compared)
        self._undone = CheckQuery(connection, _UNDONE, parameters, compared=compared)
        self._checked = UNKNOWN if day is None else days_of(day)
        self._scope = "" if day is None else self._query.sql(_SALES_OF_DAY)
        days = [day] if day else [date_of(row.day) for row in self._query.rows(_DAYS)]
        self._days = np.array([days_of(it) for it in days], dtype=np.int64)
        self._found = Comparison()
        self._runs: dict[str, _Run] = {}
        self._made: list[NDArray[np.uint64]] = [np.empty(0, dtype=np.uint64)]
        self._unmade: list[tuple[NDArray[np.int64], NDArray[np.uint64]]] = []

    def compare(self) -> Comparison:
        """Compare, and return what was found."""
        query = self._query
        ranges = _Ranges(self._stream(query.sql(_RANGES), size=RANGES), self._runs, self._day)
        changed = _Changed(self._connection, self._stream(query.sql(_CHANGED)))
        for sales in read_sales(self._connection, self._scope, query.parameters):
            last = int(sales.ids[-1])
            self._compare_slice(sales, ranges.upto(last), changed.upto(last))
            self._finish(last)
        self._compare_slice(Sales.none(), ranges.upto(None), changed.upto(None))
        self._finish(None)
        for row in query.rows(_WITHOUT_IDS):
            self._found.runs += 1
            figures = {"invoice_ids": Figure(row.sales, 0)}
            self._found.differing.append(RunDifference(row.run_id, date_of(row.day), {}, figures))
        self._found.differing.sort(key=lambda it: (it.day, it.run_id))
        self._find_copies()
        self._find_undone()
        return self._found

    def _stream(self, statement: str, **options: int) -> Iterator[Sequence[Row[Any]]]:
        return stream(self._connection, statement, self._query.parameters, **options)

    def _compare_slice(self, sales: Sales, expected: _Expected, before: Sales) -> None:
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

    def _concerned(self, expected: _Expected) -> NDArray[np.bool_]:
        """Tell of each sale whether it is judged: made by a run of the day, or dated on it."""
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
        slices = stream(self._connection, query.sql(_RANGES), query.parameters, size=RANGES)
        ranges = _Ranges(slices, {}, self._day)
        for sales in read_sales(self._connection, query.sql(_MADE), query.parameters):
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


class _Ranges:
    """Ranges of ids of runs, which are asked for in the order of ids."""

    def __init__(
        self, slices: Iterator[Sequence[Row[Any]]], runs: dict[str, _Run], day: date | None
    ) -> None:
        self._day = day
        self._rows = (row for rows in slices for row in rows)
        self._next: Row[Any] | None = next(self._rows, None)
        self._open: list[_Open] = []
        self._runs = runs

    def upto(self, last: int | None) -> _Expected:
        """Return the next ids, up to the last one given; all that are left for None."""
        while self._next is not None and (last is None or self._next.first_id <= last):
            row, self._next = self._next, next(self._rows, None)
            run = self._runs.get(row.run_id)
            if run is None and row.compared:
                run = self._runs[row.run_id] = _Run.of(row, self._day)
            ids = range(row.first_id, row.last_id + 1, row.step)
            self._open.append(_Open(run, ids, row.fingerprints))
        parts, rest = [], []
        for it in self._open:
            count = len(it.ids)
            if last is not None and it.ids[-1] > last:
                count = len(range(it.ids.start, last + 1, it.ids.step))
                rest.append(it.after(count))
            parts.append(it.before(count))
        self._open = rest
        return _expected(parts)


class _Open(NamedTuple):
    """A range of ids, or what is left of it."""

    run: _Run | None
    ids: range
    fingerprints: bytes | None

    def before(self, count: int) -> _Open:
        """Return its first ids."""
        prints = self.fingerprints
        return _Open(self.run, self.ids[:count], prints and prints[: count * FINGERPRINT.itemsize])

    def after(self, count: int) -> _Open:
        """Return the others."""
        prints = self.fingerprints
        return _Open(self.run, self.ids[count:], prints and prints[count * FINGERPRINT.itemsize :])


def _expected(parts: Sequence[_Open]) -> _Expected:
    """Put ranges together."""
    numbers: dict[str, int] = {}
    runs: list[_Run] = []
    owners, prints, known = [], [], []
    for run, ids, fingerprints in parts:
        if run is not None:
            run.recorded += len(ids)
            if run.run_id not in numbers:
                numbers[run.run_id] = len(runs)
                runs.append(run)
        owners.append(-1 if run is None else numbers[run.run_id])
        size = len(ids) * FINGERPRINT.itemsize
        known.append(fingerprints is not None)
        # Those that are missing at the end are no fingerprints of any sale.
        prints.append((fingerprints or b"").ljust(size, b"\0")[:size])
    counts = np.array([len(part.ids) for part in parts], dtype=np.int64)
    starts = np.cumsum(counts) - counts
    firsts = np.array([part.ids.start for part in parts], dtype=np.int64)
    steps = np.array([part.ids.step for part in parts], dtype=np.int64)
    places = np.arange(counts.sum()) - np.repeat(starts, counts)
    ids = np.repeat(firsts, counts) + np.repeat(steps, counts) * places
    order = np.argsort(ids, kind="stable")
    return _Expected(
        ids[order],
        np.repeat(np.array(owners, dtype=np.int64), counts)[order],
        np.frombuffer(b"".join(prints), dtype=FINGERPRINT)[order],
        np.repeat(np.array(known, dtype=bool), counts)[order],
        runs,
    )


class _Changed:
    """Sales as they were before the first change that stands, asked for in the order of ids."""

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
    sales: Sales, expected: _Expected, place: NDArray[np.int64]
) -> dict[str, NDArray[np.bool_]]:
    """Tell of each sale in what it differs from what is expected at a place."""
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
        "customer": known & (sales.customers & _LOW != customer),
        "timestamp": (known & other_second) | (sales.exact == 0),
        "billing_address": known & (sales.billing != billing),
        "total": sales.totals != sales.amounts,
    }


def date_of(day: date | str) -> date:
    """Return a day as such; SQLite has it as text."""
    return date.fromisoformat(day) if isinstance(day, str) else day


def days_of(day: date) -> int:
    """Return the number of days since 1970-01-01."""
    return (day - _EPOCH).days


_MADE_SALES = "r.kind NOT IN ('align', 'baseline')"

_STANDING = f"r.undone_at IS NULL AND {_MADE_SALES}"

_UNDONE = f"r.undone_at IS NOT NULL AND {_MADE_SALES}"

_MADE = "SELECT i.{invoice_id} FROM {made} WHERE {scope} AND {compared}"

_DAYS = "SELECT DISTINCT r.day AS day FROM {run} r WHERE {scope} AND r.sales > 0"

_RANGES = (
    "SELECT p.run_id, p.first_id, p.last_id, p.step, "
    "CASE WHEN {compared} THEN p.fingerprints END AS fingerprints, "
    "CASE WHEN {compared} THEN 1 ELSE 0 END AS compared, "
    "r.day, r.sales, r.lines, r.revenue, r.digest, r.last_invoice_id "
    "FROM {run_invoices} p JOIN {run} r ON r.run_id = p.run_id WHERE {scope} ORDER BY p.first_id"
)

_WITHOUT_IDS = (
    "SELECT r.run_id, r.day, r.sales FROM {run} r WHERE {scope} AND {compared} AND r.sales > 0 "
    "AND NOT EXISTS (SELECT 1 FROM {run_invoices} p WHERE p.run_id = r.run_id)"
)

_CHANGED = (
    "SELECT c.subject_id AS id, c.before AS kept FROM "
    "(SELECT min(c.change_id) AS change_id FROM {change} c JOIN {run} r ON r.run_id = c.run_id "
    "WHERE r.undone_at IS NULL AND c.subject = 'invoice' GROUP BY c.subject_id) f "
    "JOIN {change} c ON c.change_id = f.change_id ORDER BY c.subject_id"
)

_SALES_OF_DAY = (
    "SELECT i.{invoice_id} FROM {made} WHERE {scope} AND {compared} UNION "
    "SELECT i.{invoice_id} FROM {invoice} i WHERE i.{date} >= :start AND i.{date} < :end"
)
