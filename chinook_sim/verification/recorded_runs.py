"""What the ledger says that runs made, a slice at a time."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from dataclasses import dataclass, field
from datetime import date
from decimal import Decimal
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from chinook_sim.verification.differences import KINDS, Difference, Figure, RunDifference
from chinook_sim.verification.query import SHOWN

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray
    from sqlalchemy import Row

    from chinook_sim.verification.sale_columns import Sales

__all__ = [
    "FIELDS",
    "FINGERPRINT",
    "LOW",
    "RANGES",
    "Expected",
    "RangeReader",
    "RecordedRun",
    "date_of",
    "days_of",
]

FIELDS = ("customer", "second", "billing", "lines")

FINGERPRINT = np.dtype([(name, ">u4") for name in FIELDS])
"""See `chinook_sim.sales.fingerprints`."""

RANGES = 100
"""Rows of the ledger read at a time; each may have 32 kilobytes of fingerprints."""

_EPOCH = date(1970, 1, 1)

LOW = 0xFFFFFFFF


@dataclass(slots=True)
class RecordedRun:
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
    def of(cls, row: Row[Any], day: date | None) -> RecordedRun:
        """Make one of a row of `RANGES_OF_RUNS`.

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


class Expected(NamedTuple):
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
    runs: list[RecordedRun]

    @property
    def starts(self) -> NDArray[np.int64]:
        """The beginning of each one's day, in seconds since 1970-01-01; 0 if not compared."""
        return np.array([*(run.start for run in self.runs), 0], dtype=np.int64)[self.owners]


class RangeReader:
    """Ranges of ids of runs, which are asked for in the order of ids."""

    def __init__(
        self, slices: Iterator[Sequence[Row[Any]]], runs: dict[str, RecordedRun], day: date | None
    ) -> None:
        self._day = day
        self._rows = (row for rows in slices for row in rows)
        self._next: Row[Any] | None = next(self._rows, None)
        self._open: list[OpenRange] = []
        self._runs = runs

    def upto(self, last: int | None) -> Expected:
        """Return the next ids, up to the last one given; all that are left for None."""
        while self._next is not None and (last is None or self._next.first_id <= last):
            row, self._next = self._next, next(self._rows, None)
            run = self._runs.get(row.run_id)
            if run is None and row.compared:
                run = self._runs[row.run_id] = RecordedRun.of(row, self._day)
            ids = range(row.first_id, row.last_id + 1, row.step)
            self._open.append(OpenRange(run, ids, row.fingerprints))
        parts, rest = [], []
        for it in self._open:
            count = len(it.ids)
            if last is not None and it.ids[-1] > last:
                count = len(range(it.ids.start, last + 1, it.ids.step))
                rest.append(it.after(count))
            parts.append(it.before(count))
        self._open = rest
        return expected_of(parts)


class OpenRange(NamedTuple):
    """A range of ids, or what is left of it."""

    run: RecordedRun | None
    ids: range
    fingerprints: bytes | None

    def before(self, count: int) -> OpenRange:
        """Return its first ids."""
        prints = self.fingerprints
        return OpenRange(
            self.run, self.ids[:count], prints and prints[: count * FINGERPRINT.itemsize]
        )

    def after(self, count: int) -> OpenRange:
        """Return the others."""
        prints = self.fingerprints
        return OpenRange(
            self.run, self.ids[count:], prints and prints[count * FINGERPRINT.itemsize :]
        )


def expected_of(parts: Sequence[OpenRange]) -> Expected:
    """Put ranges together."""
    numbers: dict[str, int] = {}
    runs: list[RecordedRun] = []
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
    return Expected(
        ids[order],
        np.repeat(np.array(owners, dtype=np.int64), counts)[order],
        np.frombuffer(b"".join(prints), dtype=FINGERPRINT)[order],
        np.repeat(np.array(known, dtype=bool), counts)[order],
        runs,
    )


def date_of(day: date | str) -> date:
    """Return a day as such; SQLite has it as text."""
    return date.fromisoformat(day) if isinstance(day, str) else day


def days_of(day: date) -> int:
    """Return the number of days since 1970-01-01."""
    return (day - _EPOCH).days
