"""The runs of a live stream, by its name."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, NamedTuple
from uuid import uuid4

from sqlalchemy import func, literal_column, select

from chinook_sim.errors import InvalidInput
from chinook_sim.kinds import RunKind
from chinook_sim.models import RUN

if TYPE_CHECKING:
    from datetime import date
    from decimal import Decimal

    from sqlalchemy import ColumnElement, Connection, Row


__all__ = [
    "STREAM_IN_KEY",
    "may_be_stream",
    "new_stream_name",
    "runs_of_stream",
    "stream_in",
    "stream_of",
]

_PREFIX = "live-"
"""What a stream's name begins with. The key of a run is the name, a slash and a number."""

_DIGITS = 8
"""Hexadecimal digits after the prefix."""

# Literals, because PostgreSQL does not recognise two parameters of one value as the same.
STREAM_IN_KEY: ColumnElement[str] = func.substr(
    RUN.c.key, literal_column("1"), literal_column(str(len(_PREFIX) + _DIGITS))
)
"""The name of the stream that a run of kind `live` is of, as an expression."""


def new_stream_name() -> str:
    """Return a new name for a stream."""
    return f"{_PREFIX}{uuid4().hex[:_DIGITS]}"


def stream_in(row: Row[Any]) -> str | None:
    """Return the name of the stream that a run is of; None if it is of none."""
    return row.key.split("/")[0] if row.kind == RunKind.LIVE else None


def may_be_stream(given: str) -> bool:
    """Return whether a text begins like the name of a stream."""
    return given.startswith(_PREFIX)


class Stream(NamedTuple):
    """All runs of a stream, undone or not: how many, from which day on, and what they made."""

    runs: int
    day: date
    sales: int
    lines: int
    revenue: Decimal


def stream_of(connection: Connection, name: str) -> Stream:
    """Return what the ledger knows of a stream.

    Raises:
        InvalidInput: there is no stream of that name.
    """
    if not re.fullmatch(f"{_PREFIX}[0-9a-f]{{{_DIGITS}}}", name):
        raise InvalidInput(
            f"invalid stream {name[:40]!r}: give the complete name, such as {_PREFIX}3f9a1c2e; "
            "`chinook-sim status` lists them"
        )
    made = (func.coalesce(func.sum(RUN.c[it]), 0) for it in ("sales", "lines", "revenue"))
    found = connection.execute(
        select(func.count(), func.min(RUN.c.day), *made).where(*_of_stream(name))
    ).one()
    if not found[0]:
        raise InvalidInput(f"there is no stream {name!r}; `chinook-sim status` lists them")
    count, day, sales, lines, revenue = found
    return Stream(count, day, int(sales), int(lines), revenue)


def runs_of_stream(connection: Connection, name: str) -> list[Row[Any]]:
    """Return run_id and sales of a stream's active runs, the latest first, and lock them."""
    # Longer numbers are higher ones; and no more columns, as there may be very many runs.
    latest = func.length(RUN.c.key).desc(), RUN.c.key.desc()
    query = select(RUN.c.run_id, RUN.c.sales).where(*_of_stream(name), RUN.c.undone_at.is_(None))
    return list(connection.execute(query.order_by(*latest).with_for_update()))


def _of_stream(name: str) -> tuple[ColumnElement[bool], ...]:
    return RUN.c.kind == RunKind.LIVE, RUN.c.key.startswith(f"{name}/", autoescape=True)
