"""Days and time zones, without a database and without a clock."""

from __future__ import annotations

import re
from datetime import UTC, date, datetime, time, timedelta
from functools import lru_cache
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from chinook_sim.errors import InvalidInput

if TYPE_CHECKING:
    from datetime import tzinfo

    import numpy as np
    from numpy.typing import NDArray

__all__ = [
    "DAY_SECONDS",
    "EPOCH",
    "bounds",
    "check_day",
    "check_timezone",
    "move_out_of_gaps",
    "parse_day",
    "zone_of",
]

DAY_SECONDS = 86_400

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

# The end of a day is the start of the next, and there is none after 9999-12-31.
LAST_DAY = date.max - timedelta(days=1)


def bounds(day: date) -> tuple[datetime, datetime]:
    """Return a day as the half-open interval [start, end)."""
    start = datetime.combine(day, time())
    return start, start + timedelta(days=1)


def parse_day(text: str) -> date:
    """Parse a day written as YYYY-MM-DD.

    Raises:
        InvalidInput: it does not have this form, or there is no such day.
    """
    # fromisoformat also reads 20260131 and 2026-W05-6, which no other part of a pipeline does.
    if re.fullmatch(r"[0-9]{4}-[0-9]{2}-[0-9]{2}", text):
        try:
            return check_day(date.fromisoformat(text))
        except ValueError as error:
            if isinstance(error, InvalidInput):
                raise
    raise InvalidInput(f"a day must be YYYY-MM-DD, such as 2026-01-31, got {text!r}")


def check_day(day: date) -> date:
    """Return the day as it is.

    Raises:
        InvalidInput: it is not a plain date, or too late to have an end.
    """
    if isinstance(day, datetime) or not isinstance(day, date):
        raise InvalidInput(f"a day must be a datetime.date, got {day!r:.40}")
    if day > LAST_DAY:
        raise InvalidInput(f"{day} is too late; the last day possible is {LAST_DAY}")
    return day


def check_timezone(name: str) -> str:
    """Return the name of a time zone as it is.

    Raises:
        InvalidInput: there is no such time zone.
    """
    zone_of(name)
    return name


def zone_of(name: str) -> ZoneInfo:
    """Return a time zone by its IANA name.

    Raises:
        InvalidInput: there is no such zone.
    """
    try:
        return ZoneInfo(name)
    # A name that is a directory, or a path out of the zone data, fails in other ways.
    except (ZoneInfoNotFoundError, ValueError, OSError, TypeError):
        raise InvalidInput(
            f"{name!r} is not a time zone; use an IANA name such as Europe/Paris or UTC"
        ) from None


def move_out_of_gaps(
    seconds: NDArray[np.int64], day: date, zone: tzinfo | None, *, days_before: int = 0
) -> NDArray[np.int64]:
    """Return times, with those in a gap of daylight saving time moved forward, as PostgreSQL does.

    Where clocks are set forward at 02:00 by an hour, 02:30 becomes 03:30. Times that would become
    times of the next day are moved back instead.

    Args:
        seconds: shape (n,): seconds since the midnight of the day on the clocks of the zone;
            negative for earlier days.
        day: the day.
        zone: the zone; if None, nothing is skipped.
        days_before: by how many days the earliest time may be before the day.

    Returns:
        Seconds of the same shape.
    """
    if zone is None:
        return seconds
    moved, midnight = seconds, datetime.combine(day, time())
    for start, size in _gaps(zone, day - timedelta(min(days_before, day.toordinal() - 1)), day):
        since = int((start - midnight).total_seconds())
        skipped = (moved >= since) & (moved < since + size)
        # A sale stays one of its day: where the gap reaches midnight, it is moved back.
        stays = (moved + size) // DAY_SECONDS == moved // DAY_SECONDS
        moved = moved + size * (skipped & stays) - size * (skipped & ~stays)
    return moved


@lru_cache(maxsize=16)
def _gaps(zone: tzinfo, first: date, last: date) -> list[tuple[datetime, int]]:
    """Return the local times at which a zone skips time, and how many seconds it skips.

    Args:
        zone: the zone. Its clocks are taken to be set no more than once a day.
        first: a day.
        last: another one. Gaps of the days around them may be returned as well.
    """
    gaps = []
    # No zone has standard time before 1850, and near 9999-12-31 some moments have no local time.
    begin = max(datetime.combine(first, time(), UTC), _FIRST_ZONES) - timedelta(days=1)
    end = min(datetime.combine(last, time(), UTC), _LAST_ZONES) + timedelta(days=2)
    while begin < end:
        next_ = begin + timedelta(days=1)
        offset, other = _offset(begin, zone), _offset(next_, zone)
        if other > offset:
            before, after = begin, next_
            while after - before > timedelta(seconds=1):
                middle = before + timedelta(seconds=(after - before) // timedelta(seconds=2))
                if _offset(middle, zone) == offset:
                    before = middle
                else:
                    after = middle
            start = (after + offset).replace(tzinfo=None)
            gaps.append((start, int((other - offset).total_seconds())))
        begin = next_
    return gaps


_FIRST_ZONES, _LAST_ZONES = datetime(1850, 1, 1, tzinfo=UTC), datetime(9999, 1, 1, tzinfo=UTC)


def _offset(moment: datetime, zone: tzinfo) -> timedelta:
    return moment.astimezone(zone).utcoffset() or timedelta(0)
