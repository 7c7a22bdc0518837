"""Runs that exist once, by a key."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from sqlalchemy import func, select

from chinook_sim.database.backends import backend_for
from chinook_sim.errors import KeyTaken, NoLedger
from chinook_sim.kinds import ChangeKind
from chinook_sim.ledger.invoice_ranges import ranges_of
from chinook_sim.ledger.request import once_key
from chinook_sim.models import CHANGE, RUN
from chinook_sim.sales.summary import BatchSummary
from chinook_sim.sampling.selections import LATE_PARTS, count_late

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import date

    from sqlalchemy import Connection, Row

    from chinook_sim.database.schema import Chinook
    from chinook_sim.ledger.request import RunRequest
    from chinook_sim.sales.id_ranges import IdRanges

__all__ = [
    "find_active_run",
    "made_already",
    "made_between",
    "require_ledger",
    "summary_of",
    "try_key",
]


def require_ledger(chinook: Chinook) -> None:
    """Refuse a database without a ledger, or with one that cannot be used.

    Raises:
        NoLedger: it has none, tables of it are missing, or it is in a schema that the shop has
            left.
    """
    if chinook.stray_ledger is not None:
        raise NoLedger(
            f"the schema {chinook.stray_ledger} has a ledger without a Chinook, and this shop has "
            "no ledger; run `chinook-sim init`, which makes one, or says how to move that one here"
        )
    if chinook.outdated_ledger:
        raise NoLedger(
            "the ledger of this database is at an earlier revision, or incomplete; "
            "run `chinook-sim init` or `alembic upgrade head`. If tables of the ledger were "
            "dropped, run `alembic downgrade 0002` first"
        )
    if not chinook.ledger:
        raise NoLedger(
            "there is no ledger in this database; run `chinook-sim init` or `alembic upgrade "
            "head`. If the ledger was dropped, run `alembic downgrade 0002` first"
        )


def find_active_run(
    connection: Connection, kind: str, key: str, *, locked: bool = True
) -> Row[Any] | None:
    """Return the run with a key that is not undone, or None.

    If it is to be locked, other requests of the same key wait until this transaction has ended.
    """
    if locked:
        backend_for(connection).lock(connection, _lock_of(kind, key))
    # A statement of its own, after the lock: one snapshot for both would be from before it.
    return connection.execute(
        select(RUN).where(RUN.c.kind == kind, RUN.c.key == key, RUN.c.undone_at.is_(None))
    ).one_or_none()


def try_key(connection: Connection, kind: str, key: str) -> bool:
    """Lock a key until the transaction ends, as `find_active_run` does, if nobody else holds it."""
    return backend_for(connection).try_lock(connection, _lock_of(kind, key))


def _lock_of(kind: str, key: str) -> int:
    lock = hashlib.sha256(f"chinook_sim {kind} {key}".encode()).digest()[:8]
    return int.from_bytes(lock, "big", signed=True)


def made_between(
    connection: Connection, kind: str, start: date, end: date
) -> Iterator[BatchSummary]:
    """Yield the batches that were made once for their days, from one day to another."""
    rows = [
        row
        for row in connection.execute(
            select(RUN).where(
                RUN.c.kind == kind, RUN.c.day.between(start, end), RUN.c.undone_at.is_(None)
            )
        )
        if row.key == once_key(row.day)
    ]
    ids = ranges_of(connection, [row.run_id for row in rows])
    return (_summary(row, ids[row.run_id]) for row in rows)


def made_already(
    connection: Connection, request: RunRequest, *, locked: bool = True
) -> BatchSummary | None:
    """Return the batch that was made with a request's key, or None if it is to be made.

    Raises:
        KeyTaken: the key was used with other options.
    """
    if request.key is None:
        return None
    row = find_active_run(connection, request.kind, request.key, locked=locked)
    if row is None:
        return None
    differences: dict[str, tuple[object, object]] = {
        name: (then, now)
        for name, then, now in (
            ("day", row.day, request.day),
            ("number of sales", row.requested, request.count),
            ("seed", row.seed, row.seed if request.seed is None else request.seed),
            ("profile", row.profile, request.profile),
            ("parameters", row.parameters, request.parameters_text),
        )
        if then != now
    }
    if differences:
        changed = ", ".join(
            f"{name} {then}, not {now}" for name, (then, now) in differences.items()
        )
        whose = (
            f"the sales of {request.day}" if request.once else f"the batch of key {request.key!r}"
        )
        raise KeyTaken(
            f"{whose} were already generated with other options: {changed}; use the same ones, or "
            f"run `chinook-sim undo {row.run_id[:8]}` first",
            key=str(request.key),
            differences=differences,
        )
    return replace(summary_of(connection, row), **_changes(connection, row), late=_late(row))


def _late(row: Row[Any]) -> int:
    """Return how many of a run's sales are late, which follows from its seed."""
    parameters = json.loads(row.parameters)
    parts = int(Decimal(parameters.get("late", "0")) * LATE_PARTS)
    start = parameters.get("start", 0)
    return count_late(row.seed, row.day, start, start + row.requested, parts=parts) if parts else 0


def _changes(connection: Connection, row: Row[Any]) -> dict[str, Any]:
    """Return how many changes a run made, by the name in `BatchSummary`."""
    names = {kind.value: kind.field for kind in ChangeKind}
    if not json.loads(row.parameters).keys() & set(names.values()):
        return {}
    kinds = select(CHANGE.c.kind, func.count()).where(CHANGE.c.run_id == row.run_id)
    found = connection.execute(kinds.group_by(CHANGE.c.kind))
    return {names[kind]: count for kind, count in found if kind in names}


def summary_of(connection: Connection, row: Row[Any]) -> BatchSummary:
    """Return what a row of the ledger says was made."""
    return _summary(row, ranges_of(connection, [row.run_id])[row.run_id])


def _summary(row: Row[Any], ids: IdRanges) -> BatchSummary:
    return BatchSummary(
        day=row.day,
        count=row.sales,
        lines=row.lines,
        revenue=row.revenue,
        seed=row.seed,
        digest=row.digest,
        invoice_ids=ids,
        hours=tuple(json.loads(row.hours)),
        run_id=row.run_id,
        key=row.key,
        existed=True,
        profile=row.profile,
    )
