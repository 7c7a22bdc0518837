"""Profiles: when, how much and what customers buy, over a day and over a year.

A profile only declares; the one thing it draws is how a day's number of sales is rounded. Weights
are relative: twice the weight is twice as often.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from datetime import date, datetime
from typing import TYPE_CHECKING, Any, NamedTuple

from chinook_sim.errors import InvalidInput
from chinook_sim.sampling.draws import MAX_BASKET
from chinook_sim.sampling.selections import sample_fraction

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["NAME_LENGTH", "REALISTIC", "UNIFORM", "Peak", "Profile", "relative"]

NAME_LENGTH = 200
"""The most characters of a name: as many as the ledger's column holds."""

STEEPEST = 10.0
"""The largest Zipf exponent: the first then has all but a thousandth of the sales."""

HIGHEST_GROWTH = 100.0
"""The largest growth in a year: a hundredfold."""

YEAR_DAYS = 365.2425

FACTOR_LIMIT = 1e12
"""From where on a day's factor is a mistake, and not a shop."""


class Peak(NamedTuple):
    """A day with a factor of its own.

    Attributes:
        day: `MM-DD` for every year, or `YYYY-MM-DD` for one.
        factor: how many times as many sales it has.
    """

    day: str
    factor: float

    def is_on(self, day: date) -> bool:
        """Return whether a day is this one."""
        return day.isoformat().endswith(self.day)


@dataclass(frozen=True)
class Profile:
    """The distribution of the sales.

    Attributes:
        name: its name in the ledger, at most 200 characters.
        hours: 24 weights, of the hours of a day.
        weekdays: 7 weights, Monday first.
        months: 12 weights.
        growth: growth per year, 0.15 for 15 %.
        since: the day on which the factor of growth is 1.
        customers: Zipf exponent of customers: the customer of rank r buys r ** -exponent times as
            often as the first; 0 for all equally. The ranks follow from the ids alone.
        tracks: Zipf exponent of tracks.
        baskets: weights of baskets of 1 to 5 tracks.
        peaks: days with a factor of their own; factors of the same day multiply.

    Raises:
        InvalidInput: a value is of the wrong type or out of range; the message names it.
    """

    name: str
    hours: Sequence[float] = (1.0,) * 24
    weekdays: Sequence[float] = (1.0,) * 7
    months: Sequence[float] = (1.0,) * 12
    growth: float = 0.0
    since: date = date(2026, 1, 1)
    customers: float = 0.0
    tracks: float = 0.0
    baskets: Sequence[float] = (1.0,) * MAX_BASKET
    peaks: Sequence[Peak] = ()

    def __post_init__(self) -> None:
        if not isinstance(self.name, str) or not 1 <= len(self.name) <= NAME_LENGTH:
            raise InvalidInput(f"a profile's name must be 1 to {NAME_LENGTH} characters")
        checked: dict[str, object] = {
            "hours": _weights("hours", self.hours, 24),
            "weekdays": _weights("weekdays", self.weekdays, 7),
            "months": _weights("months", self.months, 12),
            "growth": _number("growth", self.growth, least=-1, most=HIGHEST_GROWTH, above=True),
            "since": _day("since", self.since),
            "customers": _number("customers", self.customers, least=0, most=STEEPEST),
            "tracks": _number("tracks", self.tracks, least=0, most=STEEPEST),
            "baskets": _weights("baskets", self.baskets, MAX_BASKET),
            "peaks": _peaks(self.peaks),
        }
        for name, value in checked.items():
            object.__setattr__(self, name, value)

    @property
    def has_calendar(self) -> bool:
        """Whether some days have more sales than others."""
        alike = len(set(self.weekdays)) == 1 and len(set(self.months)) == 1
        return not alike or self.growth != 0 or any(peak.factor != 1 for peak in self.peaks)

    def factor(self, day: date) -> float:
        """Return how many sales a day has, relative to the mean of the year of `since`.

        The factors of weekday, month, growth and peaks multiply. Those of weekdays and months have
        a mean of 1.

        Raises:
            InvalidInput: it is too large, since growth has gone on for too long.
        """
        years = (day - self.since).days / YEAR_DAYS
        try:
            factor: float = (
                relative(self.weekdays)[day.weekday()]
                * relative(self.months)[day.month - 1]
                * (1 + self.growth) ** years
                * math.prod(peak.factor for peak in self.peaks if peak.is_on(day))
            )
        except OverflowError:
            factor = math.inf
        if not factor < FACTOR_LIMIT:
            raise InvalidInput(
                f"on {day} the profile {self.name!r} comes to more than {FACTOR_LIMIT:.0e} times "
                "as many sales as on an ordinary day; take less growth, or smaller peaks"
            )
        return factor

    def count(self, per_day: int, day: date, seed: int) -> int:
        """Return how many sales a day has if an average one has per_day.

        The number is rounded up or down by the day's own draw, so that the mean is exact.

        Raises:
            InvalidInput: as for `factor`.
        """
        return math.floor(per_day * self.factor(day) + sample_fraction(seed, day))


def relative(weights: Sequence[float]) -> list[float]:
    """Return weights with a mean of 1."""
    # Divided by the largest first: sums of very large ones would be infinite.
    largest = max(weights)
    scaled = [weight / largest for weight in weights]
    mean = math.fsum(scaled) / len(scaled)
    return [weight / mean for weight in scaled]


def _weights(key: str, given: Any, length: int) -> tuple[float, ...]:
    expected = f"{key} must be a list of {length} numbers, 0 or more and not all 0"
    if isinstance(given, str) or not hasattr(given, "__len__") or not hasattr(given, "__iter__"):
        raise InvalidInput(f"{expected}, got {given!r:.60}")
    if len(given) != length:
        raise InvalidInput(f"{expected}, got {len(given)}")
    weights = tuple(_float(weight) for weight in given)
    for weight, value in zip(weights, given, strict=True):
        if not 0 <= weight < math.inf:
            raise InvalidInput(f"{expected}, got {value!r:.40}")
    if not any(weights):
        raise InvalidInput(f"{expected}, got only 0")
    return weights


def _number(key: str, given: Any, *, least: float, most: float, above: bool = False) -> float:
    number = _float(given)
    if not least <= number <= most or (above and number == least):
        begins = f"above {least:g}" if above else f"from {least:g}"
        raise InvalidInput(f"{key} must be a number {begins} to {most:g}, got {given!r:.40}")
    return number


def _float(given: Any) -> float:
    """Return a number as such, and what is none as NaN."""
    if isinstance(given, bool) or not isinstance(given, int | float):
        return math.nan
    try:
        return float(given)
    except OverflowError:
        return math.inf


def _day(key: str, given: Any) -> date:
    try:
        if isinstance(given, date) and not isinstance(given, datetime):
            return given
        if isinstance(given, str) and re.fullmatch("[0-9]{4}-[0-9]{2}-[0-9]{2}", given):
            return date.fromisoformat(given)
    except ValueError:
        pass
    raise InvalidInput(f'{key} must be a day such as "2026-01-31", got {given!r:.40}')


def _peaks(given: Any) -> tuple[Peak, ...]:
    expected = 'peaks must be a list such as [{day = "11-27", factor = 3}]'
    if not isinstance(given, list | tuple):
        raise InvalidInput(f"{expected}, got {given!r:.60}")
    peaks = []
    for part in given:
        entry = part._asdict() if isinstance(part, Peak) else part
        if not isinstance(entry, dict) or set(entry) != {"day", "factor"}:
            raise InvalidInput(f"{expected}; each must have a day and a factor, got {part!r:.60}")
        day, factor = entry["day"], _float(entry["factor"])
        # Every year has 02-29, if only a leap year has the day.
        every = isinstance(day, str) and re.fullmatch("[0-9]{2}-[0-9]{2}", day)
        try:
            named = _day("", f"2000-{day}" if every else day).isoformat()
        except InvalidInput:
            raise InvalidInput(
                f'peaks: a day must be "MM-DD", such as "11-27", or "YYYY-MM-DD", got {day!r:.40}'
            ) from None
        if not 0 <= factor < math.inf:
            raise InvalidInput(
                f"peaks: the factor of {day} must be a number, 0 or more, got "
                f"{entry['factor']!r:.40}"
            )
        peaks.append(Peak(named[5:] if every else named, factor))
    return tuple(peaks)


UNIFORM = Profile("uniform")

REALISTIC = Profile(
    "realistic",
    # Few sales until six, a small peak at noon, and the most in the evening.
    hours=(3, 2, 1, 1, 1, 1.5, 3, 6, 8, 9, 10, 11, 13, 12, 10, 10, 12, 14, 17, 20, 22, 20, 14, 7),
    # New releases on Friday, and the weekend.
    weekdays=(0.85, 0.85, 0.9, 0.95, 1.2, 1.2, 1.05),
    # Less in summer, and presents in December.
    months=(0.95, 0.85, 0.9, 0.9, 0.95, 0.9, 0.85, 0.85, 0.95, 1.05, 1.2, 1.65),
    growth=0.12,
    # A few regular customers; hits, and a long tail.
    customers=0.6,
    tracks=0.8,
    # Most baskets have one track.
    baskets=(46, 26, 14, 9, 5),
    # Black Friday is between 23 and 29 November: a weekend in its middle every year has as much
    # weight. Presents at the last minute, and vouchers that are spent.
    peaks=(
        Peak("11-26", 2.0),
        Peak("11-27", 2.5),
        Peak("11-28", 1.8),
        Peak("12-23", 1.5),
        Peak("12-24", 1.4),
        Peak("12-26", 1.6),
    ),
)
