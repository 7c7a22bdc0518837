"""Sales as columns, and their digests and fingerprints."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["UNKNOWN", "Sales", "integers"]

UNKNOWN = -(2**60)
"""What stands for a value that is missing, or that is no number or timestamp."""

_P, _G, _CHECKSUM = 2**31 - 1, 16_807, 2**29


class Sales(NamedTuple):
    """Sales as arrays. Sale *j* has the lines `offsets[j]` to `offsets[j + 1]` (exclusive).

    Attributes:
        ids: shape (n,), int64, rising: the ids of the invoices.
        customers: shape (n,), int64: the ids of the customers.
        moments: shape (n,), int64: seconds since 1970-01-01, without a time zone.
        exact: shape (n,), int64: 1 if the timestamp is a whole second, in SQLite in the format
            YYYY-MM-DD HH:MM:SS; otherwise 0.
        totals: shape (n,), int64: in cents.
        billing: shape (n,), int64: the four bytes of the billing address in a fingerprint.
        offsets: shape (n + 1,), int64.
        tracks: shape (lines,), int64: the ids of the tracks, in the order of the lines' ids.
        prices: shape (lines,), int64: in cents.
        quantities: shape (lines,), int64.
    """

    ids: NDArray[np.int64]
    customers: NDArray[np.int64]
    moments: NDArray[np.int64]
    exact: NDArray[np.int64]
    totals: NDArray[np.int64]
    billing: NDArray[np.int64]
    offsets: NDArray[np.int64]
    tracks: NDArray[np.int64]
    prices: NDArray[np.int64]
    quantities: NDArray[np.int64]

    @classmethod
    def none(cls) -> Sales:
        """Return no sales."""
        nothing = np.empty(0, dtype=np.int64)
        return cls._make([nothing] * 6 + [np.zeros(1, dtype=np.int64)] + [nothing] * 3)

    @property
    def sizes(self) -> NDArray[np.int64]:
        """Number of lines of each sale."""
        return np.diff(self.offsets)

    @property
    def amounts(self) -> NDArray[np.int64]:
        """The sum of the lines of each sale, in cents."""
        return self._sums(self.prices * self.quantities)

    @property
    def checksums(self) -> NDArray[np.int64]:
        """The checksum of the lines of each sale, as in a fingerprint."""
        sizes = self.sizes
        place = np.arange(len(self.tracks)) - np.repeat(self.offsets[:-1], sizes)
        powers = [1]
        for _ in range(2 * int(sizes.max(initial=0))):
            powers.append(powers[-1] * _G % _P)
        power = np.array(powers, dtype=np.int64)
        terms = self.tracks % _P * power[2 * place + 1] % _P
        return self._sums(terms + self.prices % _P * power[2 * place + 2] % _P) % _P % _CHECKSUM

    @property
    def keys(self) -> NDArray[np.uint64]:
        """A 64-bit hash of the customer, the moment and the lines of each sale."""
        mixed = np.zeros(len(self.ids), dtype=np.uint64)
        for values in (self.customers, self.moments, self.checksums * 8 + self.sizes):
            mixed = (mixed ^ values.astype(np.uint64)) * np.uint64(0x9E3779B97F4A7C15)
            mixed ^= mixed >> np.uint64(29)
        return mixed

    def any_line(self, condition: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """Return for each sale whether a condition holds for any of its lines."""
        return self._sums(condition.astype(np.int64)) > 0

    def take(self, order: NDArray[np.int64]) -> Sales:
        """Return some of the sales, by position, in the order given."""
        sizes = self.sizes[order]
        offsets = np.concatenate([[0], np.cumsum(sizes)])
        lines = np.repeat(self.offsets[order] - offsets[:-1], sizes) + np.arange(offsets[-1])
        return Sales(
            self.ids[order],
            self.customers[order],
            self.moments[order],
            self.exact[order],
            self.totals[order],
            self.billing[order],
            offsets,
            self.tracks[lines],
            self.prices[lines],
            self.quantities[lines],
        )

    def replaced(self, others: Sales) -> Sales:
        """Return these sales, with others put in the place of those that have their ids."""
        if not len(others.ids):
            return self
        rest = self.take(np.flatnonzero(~np.isin(self.ids, others.ids)))
        joined = Sales._make(map(np.concatenate, zip(rest, others, strict=True)))._replace(
            offsets=np.concatenate([rest.offsets, rest.offsets[-1] + others.offsets[1:]])
        )
        return joined.take(np.argsort(joined.ids, kind="stable"))

    def _sums(self, values: NDArray[np.int64]) -> NDArray[np.int64]:
        # Differences of a running sum; wraps around exactly where numbers are absurdly large.
        running = np.concatenate([[0], np.cumsum(values)])
        sums: NDArray[np.int64] = running[self.offsets[1:]] - running[self.offsets[:-1]]
        return sums


def integers(values: Any) -> NDArray[np.int64]:
    """Return numbers as an array of 64-bit integers."""
    return np.array(values, dtype=np.int64)
