"""The database's clock: the present moment, and D-1."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

from chinook_sim.database.backends import backend_for
from chinook_sim.dates import zone_of

if TYPE_CHECKING:
    from datetime import date, datetime

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
        today = backend_for(connection).today(connection)
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
    return backend_for(connection).now(connection, zone)
