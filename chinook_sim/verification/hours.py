"""The hours in which sales of a day are expected, where clocks are changed on that day."""

from __future__ import annotations

import math
from datetime import MAXYEAR, MINYEAR, UTC, datetime, time, timedelta
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import date, tzinfo

__all__ = ["hour_weights", "hour_weights_of_days"]


def hour_weights(day: date, zone: tzinfo | None, weights: Sequence[float]) -> list[float]:
    """Return the weights of the hours of a day; that of a skipped hour moves to another hour.

    Args:
        day: the day.
        zone: the time zone of the sales; None if dates have none.
        weights: of the 24 hours.

    Returns:
        24 weights, with the same sum.
    """
    # Near year 1 and year 9999 some moments have no local time.
    if zone is None or not MINYEAR < day.year < MAXYEAR:
        return list(weights)
    noon = datetime.combine(day, time(12))
    before, after = (
        (noon + timedelta(days=days)).replace(tzinfo=zone).utcoffset() for days in (-1, 1)
    )
    if before == after:
        return list(weights)
    moved = [0.0] * 24
    for minute in range(24 * 60):
        drawn = datetime.combine(day, time(minute // 60, minute % 60))
        # A time that the clocks skip becomes a later one.
        kept = drawn.replace(tzinfo=zone).astimezone(UTC).astimezone(zone).replace(tzinfo=None)
        if kept.date() != day:
            kept = drawn - (kept - drawn)
        moved[kept.hour] += weights[drawn.hour] / 60
    return moved


def hour_weights_of_days(
    sales: Mapping[date, int], zone: tzinfo, weights: Sequence[float]
) -> list[float]:
    """Return the weights of the hours of several days together, each with its number of sales.

    Args:
        sales: how many sales each day has.
        zone: the time zone of the sales.
        weights: of the 24 hours.

    Returns:
        24 weights; those given if there are no days.
    """
    days = [[count * it for it in hour_weights(day, zone, weights)] for day, count in sales.items()]
    return [math.fsum(hour) for hour in zip(*days, strict=True)] or list(weights)
