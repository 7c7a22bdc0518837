"""Finding runs in the ledger: the list that `status` shows, and the runs that `undo` is given."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, NamedTuple

from sqlalchemy import BigInteger, case, cast, func, literal, select

from chinook_sim.errors import InvalidInput
from chinook_sim.kinds import RunKind
from chinook_sim.ledger.invoice_ranges import ranges_of
from chinook_sim.ledger.request import ONCE
from chinook_sim.ledger.streams import STREAM_IN_KEY
from chinook_sim.models import RUN

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import date, datetime
    from decimal import Decimal

    from sqlalchemy import ColumnElement, Connection, Row

    from chinook_sim.sales.id_ranges import IdRanges

__all__ = [
    "Found",
    "RunListing",
    "count_listings",
    "count_runs",
    "find_key",
    "find_run",
    "find_runs",
    "in_backfill",
    "latest_runs",
    "of_day",
]


class RunListing(NamedTuple):
    """A run, or those runs of a stream that were selected, as one.

    Attributes:
        run: the run's id, or the stream's name, as `undo` takes it.
        kind: as in `Run`.
        key: the run's key.
        day: the run's day; the last day of a stream.
        sales: the number of sales.
        lines: the number of their lines.
        revenue: the sum of their totals.
        seed: of the sales.
        digest: of the sales; None for a stream.
        invoice_ids: the ids of the invoices; None for a stream.
        at: when the run was written; the last run of a stream.
        version: the release that made it.
        undone_at: when the run was undone; for a stream, when the last of its runs was, if all are.
    """

    run: str
    kind: str
    key: str | None
    day: date | None
    sales: int
    lines: int
    revenue: Decimal
    seed: int | None
    digest: str | None
    invoice_ids: IdRanges | None
    at: datetime
    version: str
    undone_at: datetime | None


def latest_runs(
    connection: Connection,
    limit: int | None = None,
    *,
    day: date | None = None,
    kinds: Sequence[str] = (),
) -> list[RunListing]:
    """Return the latest runs, the latest first; the runs of a stream count as one.

    Args:
        connection: on a Chinook with a ledger.
        limit: the maximum number of rows; None returns all.
        day: select the runs of this day; of a stream, its runs of this day only.
        kinds: select the runs of these kinds; all kinds if empty.
    """
    selected = _selected(day, kinds)
    single = connection.execute(
        select(RUN)
        .where(*selected, RUN.c.kind != RunKind.LIVE)
        .order_by(RUN.c.created_at.desc(), RUN.c.last_invoice_id.desc())
        .limit(limit)
    ).all()
    ids = ranges_of(connection, [row.run_id for row in single])
    streams = connection.execute(
        select(
            STREAM_IN_KEY,
            literal(RunKind.LIVE.value),
            literal(None),
            func.max(RUN.c.day),
            *(cast(func.sum(RUN.c[name]), BigInteger) for name in ("sales", "lines")),
            func.sum(RUN.c.revenue),
            func.max(RUN.c.seed),
            literal(None),
            literal(None),
            func.max(RUN.c.created_at),
            func.max(RUN.c.version),
            case((func.count() == func.count(RUN.c.undone_at), func.max(RUN.c.undone_at))),
        )
        .where(*selected, RUN.c.kind == RunKind.LIVE)
        .group_by(STREAM_IN_KEY)
        .order_by(func.max(RUN.c.created_at).desc())
        .limit(limit)
    )
    listed = [
        *(
            RunListing(
                row.run_id,
                row.kind,
                row.key,
                row.day,
                row.sales,
                row.lines,
                row.revenue,
                row.seed,
                row.digest,
                ids[row.run_id],
                row.created_at,
                row.version,
                row.undone_at,
            )
            for row in single
        ),
        *(RunListing(*row) for row in streams),
    ]
    # Both parts are in order, and the sort keeps the order of equal times.
    return sorted(listed, key=lambda run: run.at, reverse=True)[:limit]


def count_listings(
    connection: Connection, *, day: date | None = None, kinds: Sequence[str] = ()
) -> int:
    """Return how many rows `latest_runs` would return without a limit."""
    single = func.count(case((RUN.c.kind != RunKind.LIVE, 1)))
    streams = func.count(case((RUN.c.kind == RunKind.LIVE, STREAM_IN_KEY)).distinct())
    return int(connection.scalar(select(single + streams).where(*_selected(day, kinds))) or 0)


def count_runs(connection: Connection) -> int:
    """Return the number of runs in the ledger, undone runs and each run of a stream included."""
    return int(connection.scalar(select(func.count()).where(RUN.c.kind != RunKind.BASELINE)) or 0)


def _selected(day: date | None, kinds: Sequence[str]) -> list[Any]:
    conditions: list[Any] = [RUN.c.kind != RunKind.BASELINE]
    if day is not None:
        conditions.append(RUN.c.day == day)
    if kinds:
        conditions.append(RUN.c.kind.in_(kinds))
    return conditions


def find_run(connection: Connection, given: str) -> Row[Any]:
    """Return the run that an id, the beginning of an id, or a key names, and lock its row.

    Raises:
        InvalidInput: it names no run, or more than one.
    """
    given = str(given)
    found: list[Row[Any]] = []
    if re.fullmatch("[0-9a-f-]{4,36}", given.lower()):
        beginning = RUN.c.run_id.startswith(given.lower())
        found = _locked(connection, beginning, RUN.c.kind != RunKind.BASELINE)
    named = _with_key(connection, given) if given else []
    if not found and named:
        return _one_of_key(given, named)
    if len(found) > 1:
        raise InvalidInput(
            f"{len(found)} runs begin with {given!r}; give more characters of the run id"
        )
    if not found:
        raise InvalidInput(
            f"no run, key or stream matches {given[:40]!r}; `chinook-sim status` lists them "
            "(give at least four characters of a run id)"
        )
    if any(row.run_id != found[0].run_id for row in named):
        raise InvalidInput(
            f"{given!r} is the beginning of run {found[0].run_id} and the key of run "
            f"{named[0].run_id}; give the whole run id, or select the other by its key"
        )
    return found[0]


def find_key(connection: Connection, key: str) -> Row[Any]:
    """Return the active run with a key, or else the latest one that was undone; lock its row.

    Raises:
        InvalidInput: no run has the key, or runs of several kinds have it.
    """
    found = _with_key(connection, key)
    if not found:
        raise InvalidInput(f"no run has the key {key[:40]!r}; `chinook-sim status` lists the runs")
    return _one_of_key(key, found)


def _with_key(connection: Connection, key: str) -> list[Row[Any]]:
    # The key of a transaction of a stream is a number; nobody gave it.
    return _locked(
        connection, RUN.c.key == key, RUN.c.kind.not_in((RunKind.BASELINE, RunKind.LIVE))
    )


def _locked(connection: Connection, *conditions: ColumnElement[bool]) -> list[Row[Any]]:
    latest = RUN.c.created_at.desc()
    return list(
        connection.execute(select(RUN).where(*conditions).order_by(latest).with_for_update())
    )


def _one_of_key(key: str, found: list[Row[Any]]) -> Row[Any]:
    # At most one active run of a kind has the key.
    active = [row for row in found if row.undone_at is None]
    if len(active) > 1:
        names = ", ".join(f"{row.run_id} ({row.kind})" for row in active)
        raise InvalidInput(f"{len(active)} runs have the key {key!r}: {names}; give the run id")
    return (active or found)[0]


class Found(NamedTuple):
    """The runs that meet some conditions.

    Attributes:
        active: run_id and sales of those that are not undone, the latest first; locked.
        undone: the latest of those that are undone, if none is active.
        total: day (the first), sales, lines and revenue of the undone ones, if none is active.
    """

    active: list[Row[Any]]
    undone: str | None = None
    total: Row[Any] | None = None


def find_runs(connection: Connection, *conditions: ColumnElement[bool]) -> Found:
    """Return the runs that meet some conditions, and lock the rows of the active ones."""
    # Runs of one transaction have the same time, and in SQLite all runs of a second.
    latest = RUN.c.created_at.desc(), func.coalesce(RUN.c.last_invoice_id, 0).desc(), RUN.c.run_id
    query = select(RUN.c.run_id, RUN.c.sales).where(*conditions, RUN.c.undone_at.is_(None))
    active: Any = connection.execute(query.order_by(*latest).with_for_update())
    found: list[Row[Any]] = list(active)
    if found:
        return Found(found)
    undone = connection.scalar(select(RUN.c.run_id).where(*conditions).order_by(*latest).limit(1))
    if undone is None:
        return Found([])
    sums = (cast(func.sum(RUN.c[name]), BigInteger).label(name) for name in ("sales", "lines"))
    revenue = func.sum(RUN.c.revenue).label("revenue")
    total = select(func.min(RUN.c.day).label("day"), *sums, revenue).where(*conditions)
    return Found([], undone, connection.execute(total).one())


def of_day(day: date) -> tuple[ColumnElement[bool], ...]:
    """Return the conditions on a run to be of a day; an alignment is of no day."""
    return RUN.c.day == day, RUN.c.kind.not_in((RunKind.BASELINE, RunKind.ALIGN))


def in_backfill(start: date, end: date) -> tuple[ColumnElement[bool], ...]:
    """Return the conditions on a run to be what `backfill`, or `once`, made of a day of a range."""
    # No key that was given begins like that.
    return RUN.c.kind == RunKind.GENERATE, RUN.c.day.between(start, end), RUN.c.key.startswith(ONCE)
