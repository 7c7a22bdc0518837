"""The digest of the sales of a batch; docs/reference/digest.md says how it is made."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from datetime import date

    import numpy as np
    from numpy.typing import NDArray


__all__ = ["Digest"]


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
        combined = hashlib.sha256(self._day.isoformat().encode())
        for column in self._columns:
            combined.update(column.digest())
        return combined.hexdigest()
