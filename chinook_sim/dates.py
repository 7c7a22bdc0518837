"""Days and time zones, without a database and without a clock."""

from __future__ import annotations

import re
from datetime import UTC, date, datetime, time, timedelta
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from chinook_sim.errors import InvalidInput

__all__ = [
    "DAY_SECONDS",
    "EPOCH",
    "bounds",
    "check_day",
    "check_timezone",
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
        InvalidInput: it is not written so, or there is no such day.
    """
    # fromisoformat also reads 20260131 and 2026-W05-6, which no other part of a pipeline does.
    if re.fullmatch(r"[0-9]{4}-[0-9]{2}-[0-9]{2}", text):
        try:
            return check_day(date.fromisoformat(text))
        except ValueError as error:
            if isinstance(error, InvalidInput):
                raise
    raise InvalidInput(f"{text!r} is not a day; write it as YYYY-MM-DD, such as 2026-01-31")


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
