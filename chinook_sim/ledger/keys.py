"""Runs that exist once: by a key of the caller's, or by what was asked for."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field, replace
from decimal import Decimal
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from sqlalchemy import func, select

from chinook_sim.database.backends import backend_for
from chinook_sim.errors import KeyTaken, NoLedger
from chinook_sim.ledger.invoice_ranges import ranges_of
from chinook_sim.models import CANCELLATION, CHANGE, MOVE, PRICE, RUN, SIGN_UP, UPDATE
from chinook_sim.sales.summary import BatchSummary
from chinook_sim.sampling.selections import LATE_PARTS, count_late

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from datetime import date

    from sqlalchemy import Connection, Row

    from chinook_sim.database.schema import Chinook
    from chinook_sim.sales.id_ranges import IdRanges

__all__ = [
    "ONCE",
    "Asked",
    "find_active_run",
    "made_already",
    "made_between",
    "once_key",
    "require_ledger",
    "summary_of",
    "try_key",
]

ONCE = "once:"
"""How the keys that we make ourselves begin."""


@dataclass(frozen=True, slots=True)
class Asked:
    """What a batch was asked to be.

    Attributes:
        kind: as in `Run`.
        day: the day.
        count: the number of sales.
        key: what makes a repeated request the same one, if anything does.
        seed: the seed, if one was given.
        timezone: the zone that D-1 was taken from, if one was given.
        profile: the shape of the day.
        parameters: whatever else differs from the default.
        run_id: a UUID of its own.
    """

    kind: str
    day: date
    count: int
    key: str | None = None
    seed: int | None = None
    timezone: str | None = None
    profile: str = "uniform"
    parameters: Mapping[str, object] = field(default_factory=dict)
    run_id: str = field(default_factory=lambda: str(uuid4()))

    @property
    def once(self) -> bool:
        """Whether the key is the day's own."""
        return self.key == once_key(self.day)

    @property
    def parameters_text(self) -> str:
        """The parameters as JSON, always in the same words."""
        return json.dumps(self.parameters, sort_keys=True)

    @property
    def parameters_hash(self) -> str:
        """SHA-256 of all that was asked for but the seed, in hexadecimal."""
        words = f"{self.day} {self.count} {self.profile} {self.parameters_text}"
        return hashlib.sha256(words.encode()).hexdigest()


def once_key(day: date) -> str:
    """Return the key under which a day's sales exist once."""
    return f"{ONCE}{day}"


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
            "the ledger of this database is of an earlier release, or incomplete; "
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
    """Return the run that a key stands for, or None.

    If it is to be locked, whoever else asks for the same key waits until this transaction has
    ended.
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
    """Yield the batches that stand for days of their own, from one day to another."""
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
    connection: Connection, asked: Asked, *, locked: bool = True
) -> BatchSummary | None:
    """Return the batch that a request's key stands for, or None where it is to be made.

    Raises:
        KeyTaken: it was asked for in other words.
    """
    if asked.key is None:
        return None
    row = find_active_run(connection, asked.kind, asked.key, locked=locked)
    if row is None:
        return None
    differences: dict[str, tuple[object, object]] = {
        name: (then, now)
        for name, then, now in (
            ("day", row.day, asked.day),
            ("number of sales", row.requested, asked.count),
            ("seed", row.seed, row.seed if asked.seed is None else asked.seed),
            ("profile", row.profile, asked.profile),
            ("parameters", row.parameters, asked.parameters_text),
        )
        if then != now
    }
    if differences:
        told = ", ".join(f"{name} {then}, not {now}" for name, (then, now) in differences.items())
        whose = f"the sales of {asked.day}" if asked.once else f"the batch of key {asked.key!r}"
        raise KeyTaken(
            f"{whose} were already generated with other options: {told}; use the same ones, or run "
            f"`chinook-sim undo {row.run_id[:8]}` first",
            key=str(asked.key),
            differences=differences,
        )
    return replace(summary_of(connection, row), **_changes(connection, row), late=_late(row))


def _late(row: Row[Any]) -> int:
    """Return how many of a run's sales are dated before its day, as follows from its seed."""
    parameters = json.loads(row.parameters)
    parts = int(Decimal(parameters.get("late", "0")) * LATE_PARTS)
    start = parameters.get("start", 0)
    return count_late(row.seed, row.day, start, start + row.requested, parts=parts) if parts else 0


def _changes(connection: Connection, row: Row[Any]) -> dict[str, Any]:
    """Return how many changes a run made, by the name in `BatchSummary`."""
    names = {
        UPDATE: "updates",
        CANCELLATION: "cancellations",
        SIGN_UP: "new_customers",
        MOVE: "moves",
        PRICE: "price_changes",
    }
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
