"""Profiles for tests, and sales that are drawn by them."""

from __future__ import annotations

import math
from collections import Counter
from typing import TYPE_CHECKING, Any

from chinook_sim import Peak, Profile

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from datetime import date
    from pathlib import Path

STEEP = Profile(
    "steep",
    hours=(0, 0, 5, *(1,) * 20, 9),
    weekdays=(1, 1, 1, 1, 1, 4, 0),
    months=(1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12),
    growth=0.5,
    customers=1.2,
    tracks=1.5,
    baskets=(0, 8, 0, 4, 1),
    peaks=(Peak("02-29", 3), Peak("2026-05-01", 0)),
)


def sums(numbers: Mapping[date, float], cell: Callable[[date], Any]) -> Counter[Any]:
    found: Counter[Any] = Counter()
    for day, number in numbers.items():
        found[cell(day)] += number  # type: ignore[assignment]
    return found


CALENDAR: dict[str, tuple[Callable[[date], Any], Callable[[Profile, date], float]]] = {
    "weekdays": (lambda day: day.weekday(), lambda it, day: it.weekdays[day.weekday()]),
    "months": (lambda day: day.month, lambda it, day: it.months[day.month - 1]),
    "growth": (
        lambda day: (day.year, day.month > 6),
        lambda it, day: (1 + it.growth) ** ((day - it.since).days / 365.2425),
    ),
    "peaks": (
        lambda day: day if f"{day:%m-%d}" in "02-29 05-01 11-26 11-27 11-28 12-23 12-24" else None,
        lambda it, day: math.prod(peak.factor for peak in it.peaks if str(day).endswith(peak.day)),
    ),
}

TOML = """
hours = [1, 1, 1, 1, 1, 1, 2, 3, 4, 4, 4, 5, 6, 5, 4, 4, 5, 6, 8, 9, 9, 7, 4, 2]
weekdays = [1, 1, 1, 1, 1.5, 2, 1.5]
growth = 0.15
since = 2025-01-01
tracks = 0.9
peaks = [{day = "11-27", factor = 3}, {day = "2026-06-05", factor = 1.5}]
"""


def write(path: Path, text: str | bytes) -> Path:
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path
