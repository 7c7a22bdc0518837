"""The arrivals of a live stream: a Poisson process that follows from a seed."""

from __future__ import annotations

import math
from collections import deque
from itertools import takewhile
from typing import TYPE_CHECKING, NamedTuple

from chinook_sim.errors import InvalidInput
from chinook_sim.integers import check_integer
from chinook_sim.sampling.selections import sample_arrivals

if TYPE_CHECKING:
    from collections.abc import Sequence
    from decimal import Decimal

__all__ = [
    "CANCELLATION",
    "MIX",
    "SALE",
    "UPDATE",
    "Arrival",
    "Arrivals",
    "check_mix",
    "check_rate",
]

SALE, UPDATE, CANCELLATION = range(3)
"""Kinds of arrival."""

MIX = (90, 8, 2)
"""How many of a hundred are sales, updates and cancellations."""

LOWEST_RATE, HIGHEST_RATE = 0.001, 10_000
"""Arrivals a second."""

DRAWN = 256
"""Arrivals that are drawn at a time."""


class Arrival(NamedTuple):
    """A sale, an update or a cancellation that is due.

    Attributes:
        at: seconds since the stream began.
        kind: `SALE`, `UPDATE` or `CANCELLATION`.
        number: number of arrivals before it.
        sales: how many of them were sales.
    """

    at: float
    kind: int
    number: int
    sales: int


class Arrivals:
    """The arrivals of a seed, one after the other, without end.

    Attributes:
        seed: the seed.
    """

    def __init__(self, seed: int, rate: float, mix: tuple[int, int, int]) -> None:
        """Begin with the first.

        Args:
            seed: 0 to 2**63 - 1.
            rate: arrivals a second, on average.
            mix: how often each kind comes.
        """
        self.seed = seed
        self._rate = rate
        self._mix = mix
        self._next: deque[Arrival] = deque()
        self._drawn = 0
        self._sales = 0
        self._at = 0.0

    @property
    def changes(self) -> bool:
        """Whether updates or cancellations come among the sales."""
        _, *others = self._mix
        return any(others)

    def next(self) -> Arrival:
        """Return the next arrival; it stays the next one."""
        if not self._next:
            self._draw()
        return self._next[0]

    def until(self, moment: float, most: int) -> list[Arrival]:
        """Return the next arrivals up to a time, at most `most`; they stay the next ones."""
        while len(self._next) < most:
            self._draw()
        coming = (self._next[place] for place in range(most))
        return list(takewhile(lambda arrival: arrival.at <= moment, coming))

    def pass_over(self, count: int) -> None:
        """Skip the next arrivals."""
        for _ in range(count):
            self._next.popleft()

    def _draw(self) -> None:
        first = self._drawn
        self._drawn += DRAWN
        gaps, kinds = sample_arrivals(self.seed, first, self._drawn, weights=self._mix)
        pairs = zip(gaps.tolist(), kinds.tolist(), strict=True)
        for number, (gap, kind) in enumerate(pairs, first):
            self._at += gap / self._rate
            self._next.append(Arrival(self._at, kind, number, self._sales))
            self._sales += kind == SALE


def check_rate(rate: float | Decimal) -> float:
    """Return a rate as a float.

    Raises:
        InvalidInput: it is not a number from 0.001 to 10,000.
    """
    try:
        number = float(rate)
    except (TypeError, ValueError, OverflowError):
        number = math.nan
    if isinstance(rate, bool | str) or not LOWEST_RATE <= number <= HIGHEST_RATE:
        raise InvalidInput(
            f"the rate must be a number of arrivals per second between {LOWEST_RATE} and "
            f"{HIGHEST_RATE:,}, got {rate!r:.40}"
        )
    return number


def check_mix(mix: Sequence[int]) -> tuple[int, int, int]:
    """Return a mix of ints.

    Raises:
        InvalidInput: it is not three integers, 0 or more and not all 0.
    """
    parts = mix if isinstance(mix, tuple | list) else ()
    if len(parts) != len(MIX):
        raise InvalidInput(
            "the mix must be three integers, for sales, updates and cancellations, such as "
            f"90:8:2, got {mix!r:.40}"
        )
    sales, updates, cancellations = (
        check_integer("a part of the mix", part, 0, 10**6) for part in parts
    )
    if not sales + updates + cancellations:
        raise InvalidInput(f"the mix must have a number above 0, got {mix!r:.40}")
    return sales, updates, cancellations
