"""Draws of sales: the sales of a day as a pure function of seed and day.

Sale *i* of a day reads Philox4x64-10 at counter *i*, keyed by (seed, day); see Salmon et al.,
"Parallel random numbers: as easy as 1, 2, 3", SC 2011. A counter gives four 64-bit words. A sale
needs eight, so it reads counter *i* of two substreams, which differ in the counter's second word.
Since every sale uses its own words and no others, any slice of a day can be made alone, in any
order. A new use of randomness takes a new substream, and leaves the sales of every seed as they
are.

NumPy guarantees the raw words of its bit generators (NEP 19), but not what `Generator` makes of
them, so this module turns words into choices itself. No draw is ever rejected, since the number of
draws of a sale would then be random. Multiplying a 53-bit fraction has a bias of less than one part
in 2**53 / size.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from chinook_sim.dates import DAY_SECONDS

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import date

    from numpy.typing import NDArray

__all__ = [
    "MAX_BASKET",
    "SEED_LIMIT",
    "WORDS",
    "CumulativeWeights",
    "SampledSales",
    "chosen",
    "philox_words",
    "sample_sales",
    "scaled_below",
]

MAX_BASKET = 5
"""The most tracks a sale has."""

SEED_LIMIT = 2**63
"""Seeds are integers from 0 up to, not including, this: what a BIGINT column holds."""

WORDS = 4

_FIRST_SUBSTREAM = 0  # words: customer, second of the day, basket size, first track

_TRACK_SUBSTREAM = 1  # words: second to fifth track

_HOUR_SECONDS = 3_600


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
class CumulativeWeights:
    """How often each choice is drawn; None if all are equally likely.

    Each is the cumulative sum of integer weights, int64. The total is below 2**53, so that choosing
    is exact.

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


_EQUAL = CumulativeWeights()


def sample_sales(
    seed: int,
    day: date,
    start: int,
    stop: int,
    *,
    customers: int,
    tracks: int,
    weights: CumulativeWeights = _EQUAL,
) -> SampledSales:
    """Draw sales `start` to `stop` (exclusive) of a day.

    Customers, seconds, basket sizes from 1 to `MAX_BASKET`, and the tracks of a basket are uniform
    unless weights are given. Where the catalogue has fewer tracks than `MAX_BASKET`, the
    largest basket has all.

    Args:
        seed: 0 to `SEED_LIMIT` - 1.
        day: the day, part of the generator's key.
        start: index of the first sale, from 0.
        stop: index after the last sale.
        customers: how many customers there are to choose from, at least 1.
        tracks: how many tracks there are to choose from, at least 1.
        weights: how often each choice is drawn.
    """
    buyer, moment, size, first = philox_words(seed, day, _FIRST_SUBSTREAM, start, stop).T
    more = philox_words(seed, day, _TRACK_SUBSTREAM, start, stop).T
    largest = min(MAX_BASKET, tracks)
    sizes = chosen(size, largest, weights.baskets) + 1
    words = [first, *more][:largest]
    baskets: Sequence[NDArray[np.integer]] = (
        _distinct(words, tracks)
        if weights.tracks is None
        else _distinct_weighted(words, weights.tracks)
    )
    return SampledSales(
        customers=chosen(buyer, customers, weights.customers),
        seconds=_seconds(moment, weights.hours),
        sizes=sizes,
        # Row by row, the first `size` of each.
        tracks=np.column_stack(baskets)[_FIRST_OF[sizes, :largest]].astype(np.int64),
    )


_FIRST_OF = np.arange(MAX_BASKET) < np.arange(MAX_BASKET + 1)[:, np.newaxis]
"""For each basket size, which of the tracks drawn are in it."""


def philox_words(seed: int, day: date, substream: int, start: int, stop: int) -> NDArray[np.uint64]:
    """Return the words of counters start to stop of a substream, shape (stop - start, 4)."""
    # NumPy's Philox steps its counter before it gives the first words, hence one less.
    counter = ((substream << 64) + start - 1) % 2**256
    generator = np.random.Philox(
        key=np.array([seed, day.toordinal()], dtype=np.uint64), counter=counter
    )
    words: NDArray[np.uint64] = generator.random_raw((stop - start) * WORDS)
    return words.reshape(-1, WORDS)


def scaled_below(words: NDArray[np.uint64], limit: int) -> NDArray[np.int64]:
    """Turn words into integers from 0 to limit - 1."""
    # 53 bits fill a double exactly; the product of a fraction < 1 with limit < 2**53 may round up
    # to limit itself only when limit is near 2**53, far beyond any table. As signed numbers they
    # become doubles several times faster.
    return ((words >> np.uint64(11)).view(np.int64) * (limit * 2.0**-53)).astype(np.int64)


def chosen(
    words: NDArray[np.uint64], size: int, running: NDArray[np.int64] | None
) -> NDArray[np.int64]:
    """Turn words into positions below size, each as often as its weight says."""
    if running is None:
        return scaled_below(words, size)
    drawn = scaled_below(words, int(running[-1]))
    chosen: NDArray[np.int64] = np.searchsorted(running, drawn, side="right")
    return chosen


def _seconds(words: NDArray[np.uint64], running: NDArray[np.int64] | None) -> NDArray[np.int64]:
    """Turn words into seconds of the day, those of an hour all alike."""
    if running is None:
        return scaled_below(words, DAY_SECONDS)
    # One draw for both: how far it lies within the hour's part says which second.
    ends = running * _HOUR_SECONDS
    drawn = scaled_below(words, int(ends[-1]))
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
        chosen = scaled_below(column, size - j).astype(np.int32)
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
