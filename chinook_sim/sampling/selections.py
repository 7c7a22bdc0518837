"""Draws other than sales: late sales, arrivals, and choices among existing rows."""

from __future__ import annotations

from datetime import date
from typing import TYPE_CHECKING

import numpy as np

from chinook_sim.sampling.draws import WORDS, chosen, philox_words, scaled_below

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

__all__ = [
    "LATE_PARTS",
    "count_late",
    "sample_arrivals",
    "sample_below",
    "sample_fraction",
    "sample_late",
    "sample_others",
    "sample_ranks",
]

_LATE_SUBSTREAM = 2  # words: days that a late sale is dated back, and three that nothing reads

_LATE_PHASE_SUBSTREAM = 3  # word 0: with which sale of a day the late ones begin

_FRACTION_SUBSTREAM = 4  # word 0: whether a day's number of sales is rounded up

_ARRIVAL_SUBSTREAM = 5  # words: how long after the one before, what it is, and two nothing reads

LATE_PARTS = 10_000
"""What shares of late sales are counted in."""


def sample_late(
    seed: int, day: date, start: int, stop: int, *, parts: int, days: int
) -> NDArray[np.int64]:
    """Draw by how many days each of the sales `start` to `stop` is dated back; 0 for most.

    Late sales are evenly spaced from a position that is drawn. So their share is the requested one
    to within one sale, however many sales are made. Everything else about a sale is independent of
    its position.

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
    back = scaled_below(philox_words(seed, day, _LATE_SUBSTREAM, start, stop)[:, 0], days) + 1
    return np.diff(before) * back


def count_late(seed: int, day: date, start: int, stop: int, *, parts: int) -> int:
    """Return how many of the sales `start` to `stop` of a day are late; see `sample_late`."""
    first, last = _late_before(seed, day, np.array([start, stop], dtype=np.int64), parts)
    return int(last - first)


def _late_before(seed: int, day: date, indices: NDArray[np.int64], parts: int) -> NDArray[np.int64]:
    """Return how many late sales there are before each index, but for a constant."""
    ((phase, *_),) = philox_words(seed, day, _LATE_PHASE_SUBSTREAM, 0, 1)
    return (indices * parts + int(phase) % LATE_PARTS) // LATE_PARTS


def sample_fraction(seed: int, day: date) -> float:
    """Draw a number from 0 to 1, exclusive, that decides how a day's number of sales is rounded."""
    ((word, *_),) = philox_words(seed, day, _FRACTION_SUBSTREAM, 0, 1)
    return float(int(word) >> 11) * 2.0**-53


def sample_arrivals(
    seed: int, start: int, stop: int, *, weights: Sequence[int]
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Draw times and kinds of the arrivals `start` to `stop` of a Poisson process.

    Args:
        seed: 0 to `SEED_LIMIT` - 1.
        start: index of the first arrival, from 0.
        stop: index after the last.
        weights: relative frequencies of the kinds, as integers.

    Returns:
        The time since the arrival before, with a mean of 1; and the kind, from 0 on. Both have the
        shape (stop - start,).
    """
    # The same on whatever day they begin to come.
    gap, kind = philox_words(seed, date.min, _ARRIVAL_SUBSTREAM, start, stop)[:, :2].T
    running = np.cumsum(np.array(weights, dtype=np.int64))
    return -np.log1p(-((gap >> np.uint64(11)) * 2.0**-53)), chosen(kind, len(weights), running)


def sample_below(seed: int, day: date, substream: int, count: int, size: int) -> NDArray[np.int64]:
    """Draw numbers below size; number j is word j of a substream.

    Args:
        seed: 0 to `SEED_LIMIT` - 1.
        day: the day.
        substream: which substream to read; each use of chance has its own.
        count: how many.
        size: how many numbers there are.

    Returns:
        Shape (count,), int64.
    """
    return scaled_below(
        philox_words(seed, day, substream, 0, -(-count // WORDS)).ravel()[:count], size
    )


def sample_ranks(seed: int, day: date, substream: int, count: int, size: int) -> NDArray[np.int64]:
    """Draw different numbers below size: the first `count` different ones of a substream, in order.

    Args:
        seed: 0 to `SEED_LIMIT` - 1.
        day: the day.
        substream: which substream to read; each use of chance has its own.
        count: how many; all there are, where it is more.
        size: how many there are to choose from.

    Returns:
        Shape (min(count, size),), int64.
    """
    wanted = min(count, size)
    blocks = wanted // 2 + 16
    while wanted:
        # One word a draw. To draw all of many, each number comes up about a dozen times.
        drawn = scaled_below(philox_words(seed, day, substream, 0, blocks).ravel(), size)
        _, first = np.unique(drawn, return_index=True)
        if len(first) >= wanted:
            return drawn[np.sort(first)[:wanted]]
        blocks *= 2
    return np.empty(0, dtype=np.int64)


def sample_others(
    seed: int,
    day: date,
    substream: int,
    taken: NDArray[np.int64],
    sizes: NDArray[np.int64],
    size: int,
) -> NDArray[np.int64]:
    """Draw, for each set of numbers below size, one that is not in it, uniformly.

    Args:
        seed: 0 to `SEED_LIMIT` - 1.
        day: the day.
        substream: which substream to read; set j reads its word j.
        taken: shape (sum of sizes,), int64: the numbers of each set, rising, set after set.
        sizes: shape (n,), int64: how many each set has, fewer than size.
        size: how many numbers there are.

    Returns:
        Shape (n,), int64.
    """
    count = len(sizes)
    words = philox_words(seed, day, substream, 0, -(-count // WORDS)).ravel()[:count]
    chosen = ((words >> np.uint64(11)).view(np.int64) * ((size - sizes) * 2.0**-53)).astype(
        np.int64
    )
    starts = np.cumsum(sizes) - sizes
    # The numbers left, counted from the lowest: moved past each one taken, in rising order.
    for place in range(int(sizes.max(initial=0))):
        has = np.flatnonzero(sizes > place)
        chosen[has] += chosen[has] >= taken[starts[has] + place]
    return chosen
