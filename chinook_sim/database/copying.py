"""COPY through psycopg."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sqlalchemy import Connection

__all__ = ["copying"]


@contextmanager
def copying(connection: Connection, *, binary: bool = False) -> Iterator[Any]:
    """Provide psycopg's cursor for COPY; its `rowcount` is set after each COPY.

    Interrupted while it begins, psycopg leaves the connection in the middle of the COPY, and no
    ROLLBACK can be sent. Such a connection is invalidated.

    Args:
        connection: psycopg's, through SQLAlchemy.
        binary: as for psycopg's cursor; if true, the server refuses several statements at once.
    """
    driver: Any = connection.connection.driver_connection
    try:
        with driver.cursor(binary=binary) as cursor:
            yield cursor
    except BaseException:
        if driver.info.transaction_status.name == "ACTIVE":
            connection.invalidate()
        raise
