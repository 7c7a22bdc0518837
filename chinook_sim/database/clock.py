"""The database's clock: the present moment, and D-1."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from typing import TYPE_CHECKING

from sqlalchemy import text

from chinook_sim.dates import EPOCH, zone_of

if TYPE_CHECKING:
    from sqlalchemy import Connection

__all__ = ["d1", "now"]


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
    zone = None if timezone is None else zone_of(timezone)
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
