"""Rows that a trigger or a rule skipped when they were inserted, changed or deleted."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sqlalchemy import delete, func, select

from chinook_sim.database.identifiers import quoted
from chinook_sim.errors import BatchFailed

if TYPE_CHECKING:
    from sqlalchemy import ColumnElement, Connection

__all__ = ["check_written", "delete_rows"]


def check_written(connection: Connection, table: Any, written: int, sent: int) -> None:
    """Fail if the database skipped rows without an error.

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


def delete_rows(connection: Connection, model: Any, condition: ColumnElement[bool]) -> None:
    """Delete rows, and fail if some are still there.

    Raises:
        BatchFailed: a trigger or a rule skipped some.
    """
    gone = connection.execute(delete(model).where(condition)).rowcount
    left = connection.scalar(select(func.count()).select_from(model).where(condition)) or 0
    check_written(connection, model.__table__, gone, gone + left)
