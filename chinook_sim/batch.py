"""A batch of sales as arrays, and its summary."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from decimal import Decimal
from typing import TYPE_CHECKING, NamedTuple, overload

import numpy as np

from chinook_sim.curves import curves_of
from chinook_sim.profile import UNIFORM
from chinook_sim.sampling import sample_late, sample_sales

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from datetime import date

    from numpy.typing import NDArray

    from chinook_sim.catalogue import Catalogue
    from chinook_sim.profile import Profile

__all__ = [
    "NOT_LATE",
    "BatchSummary",
    "Digest",
    "IdRanges",
    "Late",
    "SaleBatch",
    "SalePlan",
    "Tally",
    "draw_batch",
]

DAY_SECONDS = 86_400

SLICE = 2_000
"""Sales made at a time: a few megabytes, whatever the size of the batch."""


@dataclass(frozen=True, slots=True, eq=False)
class SaleBatch:
    """A slice of a day's sales.

    Sale *j* has the tracks `tracks[offsets[j]:offsets[j + 1]]`.

    Attributes:
        catalogue: what `customers` and `tracks` are positions in.
        day: the day of the sales.
        customers: shape (count,), int64: position of each sale's customer.
        seconds: shape (count,), int64: second of the day, 0 to 86,399; of a late sale before the
            day, and so negative.
        offsets: shape (count + 1,), int64, from 0: where each sale's tracks begin.
        tracks: shape (lines,), int64: positions of the tracks sold.
        totals: shape (count,), int64: cents.
    """

    catalogue: Catalogue
    day: date
    customers: NDArray[np.int64]
    seconds: NDArray[np.int64]
    offsets: NDArray[np.int64]
    tracks: NDArray[np.int64]
    totals: NDArray[np.int64]

    @property
    def count(self) -> int:
        """Number of sales."""
        return len(self.customers)

    @property
    def lines(self) -> int:
        """Number of tracks sold."""
        return len(self.tracks)

    @property
    def sizes(self) -> NDArray[np.int64]:
        """Number of tracks of each sale."""
        return np.diff(self.offsets)

    @property
    def revenue(self) -> Decimal:
        """Sum of all totals."""
        return Decimal(int(self.totals.sum())).scaleb(-2)

    @property
    def customer_ids(self) -> NDArray[np.int64]:
        """Each sale's customer, by id."""
        return self.catalogue.customer_ids[self.customers]

    @property
    def track_ids(self) -> NDArray[np.int64]:
        """The tracks sold, by id."""
        return self.catalogue.track_ids[self.tracks]

    @property
    def prices(self) -> NDArray[np.int64]:
        """The unit price of each track sold, in cents."""
        return self.catalogue.prices[self.tracks]

    @property
    def digest(self) -> str:
        """SHA-256 of the sales, in hexadecimal; see `Digest`."""
        tally = Tally(self.day)
        tally.add(self)
        return tally.digest

    def slice(self, start: int, stop: int) -> SaleBatch:
        """Return sales `start` to `stop` (exclusive) of this batch."""
        first, last = self.offsets[start], self.offsets[stop]
        return SaleBatch(
            self.catalogue,
            self.day,
            self.customers[start:stop],
            self.seconds[start:stop],
            self.offsets[start : stop + 1] - first,
            self.tracks[first:last],
            self.totals[start:stop],
        )


class Late(NamedTuple):
    """Which sales are dated before their day.

    Attributes:
        parts: how many of `LATE_PARTS` sales.
        days: by how many days at most.
    """

    parts: int
    days: int


NOT_LATE = Late(0, 7)


def draw_batch(
    catalogue: Catalogue,
    seed: int,
    day: date,
    start: int,
    stop: int,
    *,
    late: Late = NOT_LATE,
    profile: Profile = UNIFORM,
) -> SaleBatch:
    """Make sales `start` to `stop` (exclusive) of a day; the same ones whatever else is made."""
    sales = sample_sales(
        seed,
        day,
        start,
        stop,
        customers=len(catalogue.customer_ids),
        tracks=len(catalogue.track_ids),
        curves=curves_of(catalogue, profile),
    )
    seconds = sales.seconds
    if late.parts:
        seconds = seconds - DAY_SECONDS * sample_late(
            seed, day, start, stop, parts=late.parts, days=late.days
        )
    offsets = np.concatenate([[0], np.cumsum(sales.sizes)])
    # Sums between offsets: differences of a running sum, which is exact in whole cents.
    running = np.concatenate([[0], np.cumsum(catalogue.prices[sales.tracks])])
    return SaleBatch(
        catalogue,
        day,
        sales.customers,
        seconds,
        offsets,
        sales.tracks,
        running[offsets[1:]] - running[offsets[:-1]],
    )


@dataclass(frozen=True, slots=True, eq=False)
class SalePlan:
    """Sales of a day that are still to be made: which ones, and out of what.

    Attributes:
        catalogue: what they are made of.
        seed: the day's seed.
        day: the day.
        start: index of the first sale within the day.
        count: how many.
        buyers: shape (k,), int64: positions of the customers of the first k sales of the day, who
            are not drawn, as they sign up to buy.
        late: which of them are dated before the day.
        profile: the shape of the sales.
        moments: shape (count,), int64: seconds of the day, where they are not drawn either.
    """

    catalogue: Catalogue
    seed: int
    day: date
    start: int
    count: int
    buyers: NDArray[np.int64] = field(default_factory=lambda: np.empty(0, dtype=np.int64))
    late: Late = NOT_LATE
    profile: Profile = UNIFORM
    moments: NDArray[np.int64] | None = None

    def slices(self) -> Iterator[SaleBatch]:
        """Make the sales, in order, `SLICE` at a time; every call makes the same ones again."""
        stop = self.start + self.count
        for first in range(self.start, stop, SLICE):
            last = min(first + SLICE, stop)
            drawn = draw_batch(
                self.catalogue,
                self.seed,
                self.day,
                first,
                last,
                late=self.late,
                profile=self.profile,
            )
            if self.moments is not None:
                moments = self.moments[first - self.start : last - self.start]
                drawn = replace(drawn, seconds=moments)
            yield self._with_buyers(drawn, first)

    def _with_buyers(self, batch: SaleBatch, first: int) -> SaleBatch:
        buyers = self.buyers[first : first + batch.count]
        if not len(buyers):
            return batch
        return replace(batch, customers=np.concatenate([buyers, batch.customers[len(buyers) :]]))

    def tally(self) -> Tally:
        """Add up what the sales come to, without writing them anywhere."""
        tally = Tally(self.day)
        for batch in self.slices():
            tally.add(batch)
        return tally


class Digest:
    """SHA-256 of the content of a day's sales, added up slice by slice.

    It is taken of the day and of the SHA-256 of each column (customer ids, seconds since the day
    began, basket sizes, track ids, unit prices in cents) as little-endian 64-bit integers. Slices
    may be cut anywhere, and ids of invoices do not enter.
    """

    def __init__(self, day: date) -> None:
        self._day = day
        self._columns = [hashlib.sha256() for _ in range(5)]

    def add(self, *columns: NDArray[np.int64]) -> None:
        """Add the next part of each column; an empty array adds nothing."""
        for column, values in zip(self._columns, columns, strict=True):
            column.update(values.astype("<i8", copy=False).data)

    def hexdigest(self) -> str:
        """Return the digest in hexadecimal."""
        whole = hashlib.sha256(self._day.isoformat().encode())
        for column in self._columns:
            whole.update(column.digest())
        return whole.hexdigest()


class Tally:
    """What a batch comes to, added up slice by slice, so that no batch has to be held whole."""

    def __init__(self, day: date) -> None:
        self.day = day
        self.count = 0
        self.lines = 0
        self.cents = 0
        self.late = 0
        self.hours = np.zeros(24, dtype=np.int64)
        self._digest = Digest(day)

    def add(self, batch: SaleBatch) -> None:
        """Add the next slice."""
        self.count += batch.count
        self.lines += batch.lines
        self.cents += int(batch.totals.sum())
        self.late += int(np.count_nonzero(batch.seconds < 0))
        self.hours += np.bincount(batch.seconds % DAY_SECONDS // 3600, minlength=24)
        self._digest.add(
            batch.customer_ids, batch.seconds, batch.sizes, batch.track_ids, batch.prices
        )

    @property
    def revenue(self) -> Decimal:
        """Sum of all totals."""
        return Decimal(self.cents).scaleb(-2)

    @property
    def digest(self) -> str:
        """SHA-256 in hexadecimal; see `Digest`."""
        return self._digest.hexdigest()


class IdRanges(Sequence[int]):
    """Rising ids as a few ranges: it behaves like a list of them and never holds one."""

    def __init__(self, ranges: Sequence[range] = ()) -> None:
        self.ranges = tuple(ids for ids in ranges if ids)

    @classmethod
    def of(cls, ids: Sequence[int]) -> IdRanges:
        """Make them of ids that rise."""
        array = np.asarray(ids, dtype=np.int64)
        steps = np.diff(array)
        step = int(steps.min()) if len(steps) else 1
        parts = np.split(array, np.flatnonzero(steps != step) + 1)
        return cls([range(int(part[0]), int(part[-1]) + 1, step) for part in parts if len(part)])

    def __len__(self) -> int:
        return sum(len(ids) for ids in self.ranges)

    @overload
    def __getitem__(self, index: int) -> int: ...
    @overload
    def __getitem__(self, index: slice) -> IdRanges: ...
    def __getitem__(self, index: int | slice) -> int | IdRanges:
        if isinstance(index, slice):
            start, stop, step = index.indices(len(self))
            if step != 1:
                raise ValueError("ids can only be sliced with step 1")
            return self._between(start, stop)
        wanted = index + len(self) if index < 0 else index
        for ids in self.ranges if wanted >= 0 else ():
            if wanted < len(ids):
                return ids[wanted]
            wanted -= len(ids)
        raise IndexError("no such id")

    def __iter__(self) -> Iterator[int]:
        for ids in self.ranges:
            yield from ids

    def __contains__(self, value: object) -> bool:
        return any(value in ids for ids in self.ranges)

    def __eq__(self, other: object) -> bool:
        return self.ranges == other.ranges if isinstance(other, IdRanges) else NotImplemented

    def __hash__(self) -> int:
        return hash(self.ranges)

    def __repr__(self) -> str:
        return f"IdRanges({list(self.ranges)!r})"

    def array(self) -> NDArray[np.int64]:
        """Return the ids as an array; meant for a slice of them."""
        # With a step, NumPy counts in floating-point numbers, in which very large ids are inexact.
        parts = [
            np.int64(ids.start) + np.int64(ids.step) * np.arange(len(ids), dtype=np.int64)
            for ids in self.ranges
        ]
        return np.concatenate([np.empty(0, dtype=np.int64), *parts])

    def _between(self, start: int, stop: int) -> IdRanges:
        parts = []
        for ids in self.ranges:
            parts.append(ids[max(start, 0) : max(stop, 0)])
            start, stop = start - len(ids), stop - len(ids)
        return IdRanges(parts)


@dataclass(frozen=True, slots=True)
class BatchSummary:
    """What was written.

    Attributes:
        day: the day of the sales.
        count: number of sales.
        lines: number of tracks sold.
        revenue: sum of the totals.
        seed: the seed that makes these sales again.
        digest: SHA-256 of the content of the sales, in hexadecimal; see `Digest`.
        invoice_ids: the ids of the invoices, in the order of the sales; empty after a dry run.
        hours: number of sales in each of the day's 24 hours.
        run_id: the batch's id in the ledger; None where there is no ledger, or after a dry run.
        key: what makes a repeated request the same one, if anything does.
        existed: whether the batch was there already, by its key, and nothing was written now.
        differences: of a day that existed before `backfill`, what differs from the request: its
            name → what exists, what was requested; empty if nothing does.
        late: number of sales that are dated before the day.
        profile: the name of the shape of the sales.
        updates: number of earlier invoices that got one more track.
        cancellations: number of earlier invoices that were taken away.
        new_customers: number of people who signed up.
        moves: number of customers who got another address.
        price_changes: number of tracks that got another price.
    """

    day: date
    count: int
    lines: int
    revenue: Decimal
    seed: int
    digest: str
    invoice_ids: IdRanges = field(default_factory=IdRanges)
    hours: tuple[int, ...] = ()
    run_id: str | None = None
    key: str | None = None
    existed: bool = False
    late: int = 0
    profile: str = "uniform"
    updates: int = 0
    cancellations: int = 0
    new_customers: int = 0
    moves: int = 0
    price_changes: int = 0
    differences: Mapping[str, tuple[object, object]] = field(default_factory=dict, hash=False)

    @property
    def average(self) -> Decimal:
        """Revenue per sale, to the cent; 0 where there are no sales."""
        return (self.revenue / max(self.count, 1)).quantize(Decimal("0.01"))
