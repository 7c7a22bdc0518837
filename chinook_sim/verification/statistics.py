"""The chi-square test, and the cells it is made of."""

from __future__ import annotations

import math
from heapq import heapify, heappop, heapreplace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence


__all__ = ["LEAST_EXPECTED", "MOST_CELLS", "chi2_survival", "is_rounded", "merged_cells"]

LEAST_EXPECTED = 20
"""Sales that a cell must be expected to have; cells with fewer are judged together."""

MOST_CELLS = 40
"""Into how many groups, of as many sales each, customers and tracks are put by their rank."""

PRECISION = 1e-12
"""By how large a part numbers differ that are the same, but for how floats were rounded."""


def chi2_survival(chi_square: float, degrees: int) -> float:
    """Return how likely a chi-square is that is as large or larger.

    Exact for whole degrees of freedom: the upper incomplete gamma function, from its value at 1/2
    or 1 upwards. See Abramowitz and Stegun, "Handbook of Mathematical Functions", 26.4.4 and 5.
    """
    half = chi_square / 2
    if half == 0:
        return 1.0
    parts = [math.erfc(math.sqrt(half)) if degrees % 2 else math.exp(-half)]
    at = 0.5 if degrees % 2 else 1.0
    while at < degrees / 2:
        parts.append(math.exp(at * math.log(half) - half - math.lgamma(at + 1)))
        at += 1
    return min(math.fsum(parts), 1.0)


def merged_cells(cells: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """Put cells together, the rarest first, until each has enough to be judged."""
    # By what is expected and by place: chosen by what was seen, the cells would not be random.
    ordered = [(expected, place, seen) for place, (expected, seen) in enumerate(cells)]
    heapify(ordered)
    while len(ordered) > 1 and ordered[0][0] < LEAST_EXPECTED:
        one, _, seen = heappop(ordered)
        other, place, seen_too = ordered[0]
        heapreplace(ordered, (one + other, place, seen + seen_too))
    return [(expected, seen) for expected, _, seen in ordered]


def is_rounded(made: int, expected: float) -> bool:
    """Return whether a number is what is expected, rounded up or down."""
    if not expected < math.inf:
        return False
    whole = round(expected)
    if math.isclose(expected, whole, rel_tol=PRECISION, abs_tol=PRECISION):
        return made == whole
    return abs(made - expected) < 1
