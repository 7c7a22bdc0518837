"""The sales of a batch, drawn slice by slice, so that memory does not grow with it."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from decimal import Decimal
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from chinook_sim.dates import DAY_SECONDS, move_out_of_gaps
from chinook_sim.sales.digest import Digest
from chinook_sim.sales.weights import cumulative_weights_of
from chinook_sim.sampling.draws import sample_sales
from chinook_sim.sampling.profile import UNIFORM
from chinook_sim.sampling.selections import sample_late

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import date, tzinfo

    from numpy.typing import NDArray

    from chinook_sim.sales.catalogue import Catalogue
    from chinook_sim.sampling.profile import Profile

__all__ = [
    "CHUNK_SALES",
    "NO_BACKDATING",
    "BackdatingRule",
    "SaleBatch",
    "SalePlan",
    "Tally",
    "draw_batch",
]

CHUNK_SALES = 2_000
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


class BackdatingRule(NamedTuple):
    """Which sales are late: dated before their day.

    Attributes:
        parts: how many of `LATE_PARTS` sales.
        days: by how many days at most.
    """

    parts: int
    days: int


NO_BACKDATING = BackdatingRule(0, 7)


def draw_batch(
    catalogue: Catalogue,
    seed: int,
    day: date,
    start: int,
    stop: int,
    *,
    backdating: BackdatingRule = NO_BACKDATING,
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
        weights=cumulative_weights_of(catalogue, profile),
    )
    seconds = sales.seconds
    if backdating.parts:
        seconds = seconds - DAY_SECONDS * sample_late(
            seed, day, start, stop, parts=backdating.parts, days=backdating.days
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
    """Sales of a day that are still to be made.

    Attributes:
        catalogue: the customers and tracks.
        seed: the day's seed.
        day: the day.
        start: index of the first sale within the day.
        count: number of sales.
        buyers: shape (k,), int64: positions of the customers of the first k sales of the day, who
            are not drawn, since they signed up to buy.
        backdating: which sales are late.
        profile: the distribution of the sales.
        timestamps: shape (count,), int64: seconds of the day, if they are not drawn.
        zone: the time zone whose clocks date the sales, if the database keeps it with the dates.
            Times that the clocks skip are moved on.
    """

    catalogue: Catalogue
    seed: int
    day: date
    start: int
    count: int
    buyers: NDArray[np.int64] = field(default_factory=lambda: np.empty(0, dtype=np.int64))
    backdating: BackdatingRule = NO_BACKDATING
    profile: Profile = UNIFORM
    timestamps: NDArray[np.int64] | None = None
    zone: tzinfo | None = None

    def slices(self) -> Iterator[SaleBatch]:
        """Make the sales in order, `CHUNK_SALES` at a time. Every call makes the same ones."""
        stop = self.start + self.count
        for first in range(self.start, stop, CHUNK_SALES):
            last = min(first + CHUNK_SALES, stop)
            drawn = draw_batch(
                self.catalogue,
                self.seed,
                self.day,
                first,
                last,
                backdating=self.backdating,
                profile=self.profile,
            )
            if self.timestamps is not None:
                seconds = self.timestamps[first - self.start : last - self.start]
                drawn = replace(drawn, seconds=seconds)
            if self.zone is not None:
                back = self.backdating.days if self.backdating.parts else 0
                seconds = move_out_of_gaps(drawn.seconds, self.day, self.zone, days_before=back)
                drawn = replace(drawn, seconds=seconds)
            yield self._with_buyers(drawn, first)

    def _with_buyers(self, batch: SaleBatch, first: int) -> SaleBatch:
        buyers = self.buyers[first : first + batch.count]
        if not len(buyers):
            return batch
        return replace(batch, customers=np.concatenate([buyers, batch.customers[len(buyers) :]]))

    def tally(self) -> Tally:
        """Add up the sales without writing them."""
        tally = Tally(self.day)
        for batch in self.slices():
            tally.add(batch)
        return tally


class Tally:
    """The sums of a batch, added up slice by slice, so that it is never in memory at once."""

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
