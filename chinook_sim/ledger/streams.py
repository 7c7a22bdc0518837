"""The runs of a live stream, by its name."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, NamedTuple
from uuid import uuid4

from sqlalchemy import func, select

from chinook_sim.errors import InvalidInput
from chinook_sim.kinds import RunKind
from chinook_sim.models import RUN

if TYPE_CHECKING:
    from datetime import date
    from decimal import Decimal

    from sqlalchemy import ColumnElement, Connection, Row


__all__ = ["STREAM", "STREAM_LENGTH", "runs_of_stream", "stream_name", "stream_of"]

STREAM = "live-"
"""The prefix of a stream's name. The key of a run is the name and the run's number in it."""

STREAM_LENGTH = len(STREAM) + 8
"""Characters of a stream's name."""


def stream_name() -> str:
    """Return a new name for a stream."""
    return f"{STREAM}{uuid4().hex[: STREAM_LENGTH - len(STREAM)]}"


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
    if not re.fullmatch(f"{STREAM}[0-9a-f]{{{STREAM_LENGTH - len(STREAM)}}}", name):
        raise InvalidInput(
            f"invalid stream {name[:40]!r}: give the complete name, such as {STREAM}3f9a1c2e; "
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
