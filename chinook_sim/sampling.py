"""The dice: what the sales of a day are, as a pure function of seed and day.

Sale *i* of a day reads Philox4x64-10 at counter *i*, keyed by (seed, day); see Salmon et al.,
"Parallel random numbers: as easy as 1, 2, 3", SC 2011. A counter gives four 64-bit words; a sale
needs eight, so it reads counter *i* of two streams, told apart by the counter's second word. As
every sale uses its own words and no others, any slice of a day can be made alone, in any order.
A new use of chance takes a new stream, and leaves the sales of every seed as they are.

NumPy promises the raw words of its bit generators for ever (NEP 19), not what `Generator` makes
of them: so the words are turned into choices here. No draw is ever rejected, which would make
the number of draws of a sale depend on chance; multiplying a 53-bit fraction is biased by less
than one part in 2**53 / size.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

__all__ = [
    "LATE_PARTS",
    "MAX_BASKET",
    "SEED_LIMIT",
    "Curves",
    "SampledSales",
    "count_late",
    "sample_arrivals",
    "sample_below",
    "sample_fraction",
    "sample_late",
    "sample_others",
    "sample_ranks",
    "sample_sales",
]

MAX_BASKET = 5
"""The most tracks a sale has."""

SEED_LIMIT = 2**63
"""Seeds are whole numbers from 0 up to, not including, this: what a BIGINT column holds."""

_DAY_SECONDS = 86_400
_WORDS = 4
_FIRST_STREAM = 0  # words: customer, second of the day, basket size, first track
_TRACK_STREAM = 1  # words: second to fifth track
_LATE_STREAM = 2  # words: days that a late sale is dated back, and three that nothing reads
_LATE_PHASE_STREAM = 3  # word 0: with which sale of a day the late ones begin
_FRACTION_STREAM = 4  # word 0: whether a day's number of sales is rounded up
_ARRIVAL_STREAM = 5  # words: how long after the one before, what it is, and two nothing reads

_HOUR_SECONDS = 3_600

LATE_PARTS = 10_000
"""What shares of late sales are counted in."""


@dataclass(frozen=True, slots=True)
class SampledSales:
    """A slice of a day's sales, as positions in a catalogue.

    Attributes:
        customers: shape (n,), int64: position of each sale's customer.
        seconds: shape (n,), int64: second of the day, 0 to 86,399.
        sizes: shape (n,), int64: number of tracks, 1 to 5.
        tracks: shape (sum of sizes,), int64: positions of the tracks, sale after sale; within a
            sale all different.
    """

    customers: NDArray[np.int64]
    seconds: NDArray[np.int64]
    sizes: NDArray[np.int64]
    tracks: NDArray[np.int64]


@dataclass(frozen=True, slots=True, eq=False)
class Curves:
    """What is chosen more often than what; None where all is alike.

    Each is a running sum of weights in whole numbers, int64, whose total is below 2**53, so that
    choosing is exact.

    Attributes:
        customers: one for each customer.
        hours: shape (24,): the hours of the day; the total times 3,600 is below 2**53.
        baskets: sizes from 1 on, as many as a basket can have tracks.
        tracks: one for each track, each with a weight of at least 1.
    """

    customers: NDArray[np.int64] | None = None
    hours: NDArray[np.int64] | None = None
    baskets: NDArray[np.int64] | None = None
    tracks: NDArray[np.int64] | None = None


_ALIKE = Curves()


def sample_sales(
    seed: int,
    day: date,
    start: int,
    stop: int,
    *,
    customers: int,
    tracks: int,
    curves: Curves = _ALIKE,
) -> SampledSales:
    """Draw sales `start` to `stop` (exclusive) of a day.

    Customers, seconds, basket sizes from 1 to `MAX_BASKET`, and the tracks of a basket are uniform
    where curves do not say otherwise. Where the catalogue has fewer tracks than `MAX_BASKET`, the
    largest basket has all.

    Args:
        seed: 0 to `SEED_LIMIT` - 1.
        day: the day, part of the generator's key.
        start: index of the first sale, from 0.
        stop: index after the last sale.
        customers: how many customers there are to choose from, at least 1.
        tracks: how many tracks there are to choose from, at least 1.
        curves: what is chosen more often than what.
    """
    buyer, moment, size, first = _words(seed, day, _FIRST_STREAM, start, stop).T
    more = _words(seed, day, _TRACK_STREAM, start, stop).T
    largest = min(MAX_BASKET, tracks)
    sizes = _choose(size, largest, curves.baskets) + 1
    words = [first, *more][:largest]
    baskets: Sequence[NDArray[np.integer]] = (
        _distinct(words, tracks)
        if curves.tracks is None
        else _distinct_weighted(words, curves.tracks)
    )
    return SampledSales(
        customers=_choose(buyer, customers, curves.customers),
        seconds=_seconds(moment, curves.hours),
        sizes=sizes,
        # Row by row, the first `size` of each.
        tracks=np.column_stack(baskets)[_FIRST_OF[sizes, :largest]].astype(np.int64),
    )


_FIRST_OF = np.arange(MAX_BASKET) < np.arange(MAX_BASKET + 1)[:, np.newaxis]
"""For each basket size, which of the tracks drawn are in it."""


def _words(seed: int, day: date, stream: int, start: int, stop: int) -> NDArray[np.uint64]:
    """Return the words of counters start to stop of a stream, shape (stop - start, 4)."""
    # NumPy's Philox steps its counter before it gives the first words, hence one less.
    counter = ((stream << 64) + start - 1) % 2**256
    generator = np.random.Philox(
        key=np.array([seed, day.toordinal()], dtype=np.uint64), counter=counter
    )
    words: NDArray[np.uint64] = generator.random_raw((stop - start) * _WORDS)
    return words.reshape(-1, _WORDS)


def _below(words: NDArray[np.uint64], limit: int) -> NDArray[np.int64]:
    """Turn words into whole numbers from 0 to limit - 1."""
    # 53 bits fill a double exactly; the product of a fraction < 1 with limit < 2**53 may round up
    # to limit itself only when limit is near 2**53, far beyond any table. As signed numbers they
    # become doubles several times faster.
    return ((words >> np.uint64(11)).view(np.int64) * (limit * 2.0**-53)).astype(np.int64)


def _choose(
    words: NDArray[np.uint64], size: int, running: NDArray[np.int64] | None
) -> NDArray[np.int64]:
    """Turn words into positions below size, each as often as its weight says."""
    if running is None:
        return _below(words, size)
    drawn = _below(words, int(running[-1]))
    chosen: NDArray[np.int64] = np.searchsorted(running, drawn, side="right")
    return chosen


def _seconds(words: NDArray[np.uint64], running: NDArray[np.int64] | None) -> NDArray[np.int64]:
    """Turn words into seconds of the day, those of an hour all alike."""
    if running is None:
        return _below(words, _DAY_SECONDS)
    # One draw for both: how far it lies within the hour's part says which second.
    ends = running * _HOUR_SECONDS
    drawn = _below(words, int(ends[-1]))
    hours = np.searchsorted(ends, drawn, side="right")
    weights = np.diff(running, prepend=0)
    within = drawn - (ends - weights * _HOUR_SECONDS)[hours]
    seconds: NDArray[np.int64] = hours * _HOUR_SECONDS + within // weights[hours]
    return seconds


def _distinct(words: Sequence[NDArray[np.uint64]], size: int) -> list[NDArray[np.int32]]:
    """Choose, in each row of the columns given, as many different numbers below size.

    The j-th choice is uniform over the size - j numbers that are left: a draw below that, moved
    past each number already taken, in rising order.
    """
    columns: list[NDArray[np.int32]] = []
    rising: list[NDArray[np.int32]] = []
    for j, column in enumerate(words):
        # Half as wide, these steps take a fifth of the time.
        chosen = _below(column, size - j).astype(np.int32)
        for taken in rising:
            chosen += chosen >= taken
        columns.append(chosen)
        # One round of insertion sort, in all rows at once.
        largest = chosen
        for k, taken in enumerate(rising):
            rising[k], largest = np.minimum(taken, largest), np.maximum(taken, largest)
        rising.append(largest)
    return columns


def _distinct_weighted(
    words: Sequence[NDArray[np.uint64]], running: NDArray[np.int64]
) -> list[NDArray[np.int64]]:
    """Choose, in each row of the columns given, as many different positions, by their weights.

    As `_distinct` does, with stretches of the length of their weights instead of single numbers:
    the j-th choice is a draw below the weights that are left, moved past each stretch already
    taken, in rising order.
    """
    weights = np.diff(running, prepend=0)
    starts = running - weights
    columns: list[NDArray[np.int64]] = []
    rising: list[NDArray[np.int64]] = []
    left = np.full(len(words[0]), running[-1])
    for column in words:
        # Of fewer bits than 53, the number left is exact as a double, and so is its 2**53rd part.
        drawn = ((column >> np.uint64(11)).view(np.int64) * (left * 2.0**-53)).astype(np.int64)
        for taken in rising:
            drawn += np.where(drawn >= starts[taken], weights[taken], 0)
        chosen = np.searchsorted(running, drawn, side="right")
        columns.append(chosen)
        left -= weights[chosen]
        largest = chosen
        for k, taken in enumerate(rising):
            rising[k], largest = np.minimum(taken, largest), np.maximum(taken, largest)
        rising.append(largest)
    return columns


def sample_late(
    seed: int, day: date, start: int, stop: int, *, parts: int, days: int
) -> NDArray[np.int64]:
    """Draw by how many days each of the sales `start` to `stop` is dated back; 0 for most.

    The late ones are every so many, from a place that is drawn: so they are the share that was
    asked for to within one sale, however many sales are made. Everything else about a sale is
    independent of its place.

    Args:
        seed: 0 to `SEED_LIMIT` - 1.
        day: the day.
        start: index of the first sale, from 0.
        stop: index after the last sale.
        parts: how many of `LATE_PARTS` sales are late.
        days: the most days, at least 1; each number of days is as likely as any other.

    Returns:
        Shape (stop - start,), int64: 0 to days.
    """
    before = _late_before(seed, day, np.arange(start, stop + 1, dtype=np.int64), parts)
    back = _below(_words(seed, day, _LATE_STREAM, start, stop)[:, 0], days) + 1
    return np.diff(before) * back


def count_late(seed: int, day: date, start: int, stop: int, *, parts: int) -> int:
    """Return how many of the sales `start` to `stop` of a day are late; see `sample_late`."""
    first, last = _late_before(seed, day, np.array([start, stop], dtype=np.int64), parts)
    return int(last - first)


def _late_before(seed: int, day: date, indices: NDArray[np.int64], parts: int) -> NDArray[np.int64]:
    """Return how many late sales there are before each index, but for a constant."""
    ((phase, *_),) = _words(seed, day, _LATE_PHASE_STREAM, 0, 1)
    return (indices * parts + int(phase) % LATE_PARTS) // LATE_PARTS


def sample_fraction(seed: int, day: date) -> float:
    """Draw a number from 0 to 1, exclusive, of a day's own: which way its sales are rounded."""
    ((word, *_),) = _words(seed, day, _FRACTION_STREAM, 0, 1)
    return float(int(word) >> 11) * 2.0**-53


def sample_arrivals(
    seed: int, start: int, stop: int, *, weights: Sequence[int]
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Draw when and as what the arrivals `start` to `stop` of a Poisson process come.

    Args:
        seed: 0 to `SEED_LIMIT` - 1.
        start: index of the first arrival, from 0.
        stop: index after the last.
        weights: how often each kind comes, in whole numbers.

    Returns:
        The time since the arrival before, where the mean is 1; and the kind, from 0 on. Both have
        the shape (stop - start,).
    """
    # The same on whatever day they begin to come.
    gap, kind = _words(seed, date.min, _ARRIVAL_STREAM, start, stop)[:, :2].T
    running = np.cumsum(np.array(weights, dtype=np.int64))
    return -np.log1p(-((gap >> np.uint64(11)) * 2.0**-53)), _choose(kind, len(weights), running)


def sample_below(seed: int, day: date, stream: int, count: int, size: int) -> NDArray[np.int64]:
    """Draw numbers below size; number j is word j of a stream.

    Args:
        seed: 0 to `SEED_LIMIT` - 1.
        day: the day.
        stream: which stream to read; each use of chance has its own.
        count: how many.
        size: how many numbers there are.

    Returns:
        Shape (count,), int64.
    """
    return _below(_words(seed, day, stream, 0, -(-count // _WORDS)).ravel()[:count], size)


def sample_ranks(seed: int, day: date, stream: int, count: int, size: int) -> NDArray[np.int64]:
    """Draw different numbers below size: the first `count` different ones of a stream, in order.

    Args:
        seed: 0 to `SEED_LIMIT` - 1.
        day: the day.
        stream: which stream to read; each use of chance has its own.
        count: how many; all there are, where it is more.
        size: how many there are to choose from.

    Returns:
        Shape (min(count, size),), int64.
    """
    wanted = min(count, size)
    blocks = wanted // 2 + 16
    while wanted:
        # One word a draw. To draw all of many, each number comes up about a dozen times.
        drawn = _below(_words(seed, day, stream, 0, blocks).ravel(), size)
        _, first = np.unique(drawn, return_index=True)
        if len(first) >= wanted:
            return drawn[np.sort(first)[:wanted]]
        blocks *= 2
    return np.empty(0, dtype=np.int64)


def sample_others(
    seed: int,
    day: date,
    stream: int,
    taken: NDArray[np.int64],
    sizes: NDArray[np.int64],
    size: int,
) -> NDArray[np.int64]:
    """Draw, for each set of numbers below size, one that is not in it, uniformly.

    Args:
        seed: 0 to `SEED_LIMIT` - 1.
        day: the day.
        stream: which stream to read; set j reads its word j.
        taken: shape (sum of sizes,), int64: the numbers of each set, rising, set after set.
        sizes: shape (n,), int64: how many each set has, fewer than size.
        size: how many numbers there are.

    Returns:
        Shape (n,), int64.
    """
    count = len(sizes)
    words = _words(seed, day, stream, 0, -(-count // _WORDS)).ravel()[:count]
    chosen = ((words >> np.uint64(11)).view(np.int64) * ((size - sizes) * 2.0**-53)).astype(
        np.int64
    )
    starts = np.cumsum(sizes) - sizes
    # The numbers left, counted from the lowest: moved past each one taken, in rising order.
    for place in range(int(sizes.max(initial=0))):
        has = np.flatnonzero(sizes > place)
        chosen[has] += chosen[has] >= taken[starts[has] + place]
    return chosen
