"""The day that sales are made for: what D-1 is, and where a day begins and ends.

Days and timestamps are naive and in the shop's local time, as Chinook's columns are. A day always
has 86,400 seconds on that clock, also where daylight saving makes it an hour shorter or longer.
"""

from __future__ import annotations

import re
from datetime import UTC, date, datetime, time, timedelta
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from sqlalchemy import text

from chinook_sim.errors import InvalidInput

if TYPE_CHECKING:
    from sqlalchemy import Connection

__all__ = ["bounds", "check_day", "check_timezone", "d1", "now", "parse_day"]

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

# The end of a day is the start of the next, and there is none after 9999-12-31.
LAST_DAY = date.max - timedelta(days=1)


def d1(connection: Connection, timezone: str | None = None) -> date:
    """Return yesterday (D-1) by the database's clock.

    Without a time zone it is `CURRENT_DATE - 1`, so that SQL written with CURRENT_DATE finds the
    sales whatever the client's clock says. (SQLite's CURRENT_DATE is in UTC.)

    Args:
        connection: whose database is asked for the time.
        timezone: an IANA name such as `Europe/Paris`: yesterday there.

    Raises:
        InvalidInput: there is no such time zone.
    """
    if timezone is None:
        # As text that no setting changes.
        question = "CURRENT_DATE"
        if connection.dialect.name == "postgresql":
            question = f"to_char(CAST({question} AS timestamp), 'YYYY-MM-DD')"
        today = date.fromisoformat(str(connection.scalar(text(f"SELECT {question}"))))
    else:
        today = now(connection, timezone).date()
    return today - timedelta(days=1)


def now(connection: Connection, timezone: str | None = None) -> datetime:
    """Return what time it is by the database's clock, naive.

    Without a time zone it is that of CURRENT_DATE: the database session's, and UTC in SQLite.

    Args:
        connection: whose database is asked.
        timezone: an IANA name such as `Europe/Paris`: the time there.

    Raises:
        InvalidInput: there is no such time zone.
    """
    zone = None if timezone is None else _zone(timezone)
    told: datetime
    if connection.dialect.name == "sqlite":
        # UTC, as text.
        question = "SELECT strftime('%Y-%m-%d %H:%M:%f', 'now')"
        told = datetime.fromisoformat(str(connection.exec_driver_sql(question).scalar()))
        there = told if zone is None else told.replace(tzinfo=UTC).astimezone(zone)
    else:
        # The clock's, and not the transaction's, which may have waited for a lock. As a number:
        # no setting changes how that is written.
        question = "clock_timestamp()" if zone else "CAST(clock_timestamp() AS timestamp)"
        seconds = connection.scalar(text(f"SELECT extract(epoch FROM {question})"))  # noqa: S608
        told = EPOCH + timedelta(microseconds=int(seconds * 1_000_000))
        there = told.astimezone(zone) if zone else told
    return there.replace(tzinfo=None)


def bounds(day: date) -> tuple[datetime, datetime]:
    """Return a day as the half-open interval [start, end)."""
    start = datetime.combine(day, time())
    return start, start + timedelta(days=1)


def parse_day(text: str) -> date:
    """Read a day written as YYYY-MM-DD.

    Raises:
        InvalidInput: it is written otherwise, or there is no such day.
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
        raise InvalidInput(f"a day must be a datetime.date, not {day!r}")
    if day > LAST_DAY:
        raise InvalidInput(f"{day} is too late; the last day possible is {LAST_DAY}")
    return day


def check_timezone(name: str) -> str:
    """Return the name of a time zone as it is.

    Raises:
        InvalidInput: there is no such time zone.
    """
    _zone(name)
    return name


def _zone(name: str) -> ZoneInfo:
    try:
        return ZoneInfo(name)
    # A name that is a directory, or a path out of the zone data, fails in other ways.
    except (ZoneInfoNotFoundError, ValueError, OSError, TypeError):
        raise InvalidInput(
            f"{name!r} is not a time zone; use an IANA name such as Europe/Paris or UTC"
        ) from None
