"""Ids as ranges, which take no memory for each id."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, overload

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray


__all__ = ["IdRanges"]


class IdRanges(Sequence[int]):
    """Rising ids as a few ranges. It behaves like a list of them, but does not hold each one."""

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
