"""Rows that are not there after they were inserted or changed, because a trigger skipped them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from chinook_sim.errors import BatchFailed
from chinook_sim.naming import quoted

if TYPE_CHECKING:
    from sqlalchemy import Connection

__all__ = ["check_written"]


def check_written(connection: Connection, table: Any, written: int, sent: int) -> None:
    """Refuse to go on without rows that the database left out and reported no error for.

    Args:
        connection: which wrote them.
        table: into which table.
        written: the number of rows that the driver reports; negative if it does not.
        sent: the number of rows that were sent.

    Raises:
        BatchFailed: fewer were written.
    """
    if 0 <= written < sent:
        raise BatchFailed(
            "the batch failed and nothing was written: a trigger or a rule on "
            f"{quoted(connection, table)} skipped {sent - written} of {sent} rows; change or "
            "disable it"
        )
