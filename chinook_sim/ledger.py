"""The ledger: what was run, one row a batch, written in the batch's own transaction.

So a batch is in the ledger exactly where its sales are in the tables. That answers three questions
that nothing else can: was this night done already; was the batch committed whose answer was lost;
and which sales were its own.
"""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import dataclass, field, replace
from decimal import Decimal
from itertools import accumulate
from typing import TYPE_CHECKING, Any, NamedTuple
from uuid import uuid4

from sqlalchemy import (
    ARRAY,
    String,
    bindparam,
    exists,
    func,
    insert,
    literal,
    literal_column,
    select,
    text,
    update,
)
from sqlalchemy.exc import DBAPIError

from chinook_sim import __version__
from chinook_sim.batch import BatchSummary, IdRanges
from chinook_sim.errors import LOCK_NOT_AVAILABLE, InvalidInput, KeyTaken, NoLedger
from chinook_sim.fingerprints import FINGERPRINT_SIZE
from chinook_sim.models import (
    CANCELLATION,
    MOVE,
    PRICE,
    SIGN_UP,
    UPDATE,
    Change,
    Invoice,
    Run,
    RunInvoices,
)
from chinook_sim.sampling import LATE_PARTS, count_late

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from datetime import date

    from sqlalchemy import ColumnElement, Connection, Row, Select

    from chinook_sim.naming import Chinook

__all__ = [
    "LIVE",
    "ONCE",
    "STREAM",
    "Asked",
    "Backend",
    "backend_of",
    "baseline",
    "changed_by",
    "concerned",
    "enter",
    "in_range",
    "invoices_of",
    "made_already",
    "made_between",
    "mark_undone",
    "of_runs",
    "once_key",
    "outcome",
    "ranges_of",
    "record",
    "replace_entry",
    "require",
    "runs_of_stream",
    "set_baseline",
    "simulated",
    "standing",
    "stream_name",
    "stream_of",
    "summary_of",
    "try_key",
]

RUN = Run.__table__
CHANGE = Change.__table__
RANGE = RunInvoices.__table__

BASELINE = "baseline"
"""The run_id and kind of the row that the migration writes."""

LIVE = "live"
"""The kind of a stream's runs."""

STREAM = "live-"
"""What the name of a stream begins with; its runs have it, and their number in it, as their key."""

STREAM_LENGTH = len(STREAM) + 8
"""Characters of a stream's name."""

ONCE = "once:"
"""How the keys that we make ourselves begin."""

PATIENCE = 5
"""Seconds that `outcome` waits for a transaction to end by itself, and again after ending it."""

_BACKEND = "chinook_sim_backend"


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


class Backend(NamedTuple):
    """The server process, and the transaction on it, that wrote a row of the ledger."""

    pid: int
    transaction: str


def require(chinook: Chinook) -> None:
    """Refuse a database without a ledger, or with one of an earlier revision.

    Raises:
        NoLedger: it has none, or tables of it are missing.
    """
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


def standing(
    connection: Connection, kind: str, key: str, *, locked: bool = True
) -> Row[Any] | None:
    """Return the run that a key stands for, or None.

    If it is to be locked, whoever else asks for the same key waits until this transaction has
    ended.
    """
    if locked and connection.dialect.name == "postgresql":
        connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _lock_of(kind, key)})
    # A statement of its own, after the lock: one snapshot for both would be from before it.
    return connection.execute(
        select(RUN).where(RUN.c.kind == kind, RUN.c.key == key, RUN.c.undone_at.is_(None))
    ).one_or_none()


def try_key(connection: Connection, kind: str, key: str) -> bool:
    """Lock a key until the transaction ends, as `standing` does, if nobody else holds it now."""
    if connection.dialect.name != "postgresql":
        return True
    lock = text("SELECT pg_try_advisory_xact_lock(:key)")
    return bool(connection.scalar(lock, {"key": _lock_of(kind, key)}))


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
    row = standing(connection, asked.kind, asked.key, locked=locked)
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


def record(
    connection: Connection, asked: Asked, made: BatchSummary, *, prices_known: int | None
) -> None:
    """Write a batch into the ledger, but for its ids, which its writer records.

    Args:
        connection: in the transaction of the batch.
        asked: what it was to be.
        made: what was made.
        prices_known: the last change of a price that it had seen; 0 or None for none.
    """
    _enter(
        connection,
        asked,
        made.invoice_ids,
        seed=made.seed,
        sales=made.count,
        lines=made.lines,
        revenue=made.revenue,
        digest=made.digest,
        hours=json.dumps(made.hours),
        prices_known=prices_known or None,
    )


def replace_entry(connection: Connection, run_id: str, asked: Asked, made: BatchSummary) -> None:
    """Let the row of a run be that of a larger one, of the same kind, key, day and seed.

    Args:
        connection: in a transaction.
        run_id: the run whose row it is.
        asked: what the larger one was to be.
        made: what it made.
    """
    ids = made.invoice_ids
    entry: Any = update(RUN).where(RUN.c.run_id == run_id)
    _write(
        connection,
        entry.values(
            run_id=asked.run_id,
            requested=asked.count,
            parameters=asked.parameters_text,
            parameters_hash=asked.parameters_hash,
            first_invoice_id=ids[0] if ids else None,
            last_invoice_id=ids[-1] if ids else None,
            sales=made.count,
            lines=made.lines,
            revenue=made.revenue,
            digest=made.digest,
            hours=json.dumps(made.hours),
        ),
    )


def enter(connection: Connection, asked: Asked, ids: IdRanges, fingerprints: bytes) -> None:
    """Write a run into the ledger that made no sales: what was asked, and which invoices it moved.

    Args:
        connection: in the transaction of the run.
        asked: what was asked for.
        ids: the invoices.
        fingerprints: one for each of them, in the same order.
    """
    _enter(connection, asked, ids, sales=len(ids))
    ends = accumulate(len(part) * FINGERPRINT_SIZE for part in ids.ranges)
    rows = [
        {
            "run_id": asked.run_id,
            "first_id": part[0],
            "last_id": part[-1],
            "step": part.step,
            "fingerprints": fingerprints[end - len(part) * FINGERPRINT_SIZE : end],
        }
        for part, end in zip(ids.ranges, ends, strict=True)
    ]
    if rows:
        connection.execute(insert(RANGE), rows)


def _enter(connection: Connection, asked: Asked, ids: IdRanges, **made: object) -> None:
    entry: Any = insert(RUN).values(
        run_id=asked.run_id,
        kind=asked.kind,
        key=asked.key,
        day=asked.day,
        timezone=asked.timezone,
        requested=asked.count,
        profile=asked.profile,
        parameters=asked.parameters_text,
        parameters_hash=asked.parameters_hash,
        first_invoice_id=ids[0] if ids else None,
        last_invoice_id=ids[-1] if ids else None,
        version=__version__,
        **made,
    )
    _write(connection, entry)


def _write(connection: Connection, statement: Any) -> None:
    """Write to the ledger, and remember who did, for `outcome`."""
    if connection.dialect.name != "postgresql":
        connection.execute(statement)
        return
    who: tuple[Any, ...] = (
        literal_column("pg_backend_pid()"),
        literal_column("pg_current_xact_id()::xid::text"),
    )
    # All rows have the same answer.
    pid, transaction = connection.execute(statement.returning(*who)).all()[0]
    connection.info[_BACKEND] = Backend(pid, transaction)


def backend_of(connection: Connection) -> Backend | None:
    """Return who wrote the last row of the ledger on a connection, for `outcome`."""
    found: Backend | None = connection.info.get(_BACKEND)
    return found


def outcome(
    connection: Connection, run_id: str, backend: Backend | None, *, undone: bool = False
) -> bool | None:
    """Tell whether a transaction whose COMMIT was not answered was committed; None for not known.

    The server may still be at it. So nothing is read that does not wait for the other transaction
    first: a row with the same run_id is inserted, which finds the run's own row committed or gone,
    and taken back; or the row is locked. A server process that has not noticed that its client is
    lost is ended, so that it cannot commit later.

    Args:
        connection: a new one, with no transaction open; nothing is left behind on it.
        run_id: the run that was written, or undone.
        backend: of `backend_of`, before the connection was lost.
        undone: whether the run was being undone.
    """
    question: Any = (
        select(RUN.c.undone_at.is_not(None)).where(RUN.c.run_id == run_id).with_for_update()
    )
    if not undone:
        question = select(literal(True)).where(RUN.c.run_id == run_id)
    if connection.dialect.name != "postgresql":
        with connection.begin():
            return bool(connection.scalar(question))
    if not undone:
        from sqlalchemy.dialects import postgresql  # with all its drivers: not for SQLite

        question = (
            postgresql.insert(RUN)
            .values(run_id=run_id, kind="probe", version=__version__)
            .on_conflict_do_nothing()
            .returning(literal(False))
        )
    for forced in (False, True):
        with connection.begin() as transaction:
            # What the other transaction committed while we waited must be seen.
            connection.execute(text("SET TRANSACTION ISOLATION LEVEL READ COMMITTED"))
            if forced:
                _end(connection, backend)
            connection.execute(text(f"SET LOCAL lock_timeout = '{PATIENCE}s'"))
            try:
                answer = connection.scalar(question)
            except DBAPIError as error:
                if getattr(error.orig, "sqlstate", None) != LOCK_NOT_AVAILABLE:
                    raise
            else:
                # No row was inserted: there is one.
                return True if answer is None else bool(answer)
            finally:
                transaction.rollback()
    return None


def _end(connection: Connection, backend: Backend | None) -> None:
    """End the server process of a lost connection, if it is still at that transaction."""
    if backend is not None:
        connection.execute(
            text(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                "WHERE pid = :pid AND CAST(backend_xid AS text) = :transaction"
            ),
            backend._asdict(),
        )


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


def ranges_of(connection: Connection, runs: Sequence[str]) -> dict[str, IdRanges]:
    """Return the ids of the invoices of some runs, by run; consecutive ranges as one."""
    rows = connection.execute(
        select(RANGE.c.run_id, RANGE.c.first_id, RANGE.c.last_id, RANGE.c.step)
        .where(of_runs(connection, RANGE.c.run_id, runs))
        .order_by(RANGE.c.run_id, RANGE.c.first_id)
    )
    found: dict[str, list[range]] = {run: [] for run in runs}
    for run_id, first, last, step in rows:
        parts = found[run_id]
        if parts and parts[-1].step == step and parts[-1][-1] + step == first:
            parts[-1] = range(parts[-1][0], last + 1, step)
        else:
            parts.append(range(first, last + 1, step))
    return {run: IdRanges(parts) for run, parts in found.items()}


def of_runs(connection: Connection, column: Any, runs: Sequence[str]) -> ColumnElement[bool]:
    """Return the condition that a column is the id of one of any number of runs."""
    source: Any
    condition: ColumnElement[bool]
    if len(runs) == 1:
        condition = column == runs[0]
        return condition
    if connection.dialect.name == "sqlite":
        given: Any = bindparam("runs", json.dumps(list(runs)), unique=True)
        source = select(func.json_each(given).table_valued("value").c.value)
    else:
        given = bindparam("runs", list(runs), type_=ARRAY(String), unique=True)
        source = select(func.unnest(given))
    condition = column.in_(source)
    return condition


def invoices_of(connection: Connection, *runs: str) -> Select[Any]:
    """Return the invoices of some runs, as a SELECT of their ids; some may be gone."""
    these = of_runs(connection, RANGE.c.run_id, runs)
    if connection.dialect.name == "postgresql":
        # A list of ids can be hashed, whatever the planner knows of the ranges, and ids of
        # concurrent calls of the SQL function, which take turns, are in thousands of ranges.
        return select(func.generate_series(RANGE.c.first_id, RANGE.c.last_id, RANGE.c.step)).where(
            these
        )
    return (
        select(Invoice.invoice_id)
        .select_from(RANGE)
        .join(Invoice, in_range(Invoice.invoice_id))
        .where(these)
    )


def simulated(invoice: Any) -> ColumnElement[bool]:
    """Return the condition that an invoice, or an alias of it, was made by a run that stands."""
    made = select(literal(1)).select_from(RANGE).join(RUN, RUN.c.run_id == RANGE.c.run_id)
    return exists(
        made.where(
            in_range(invoice.invoice_id), RUN.c.digest.is_not(None), RUN.c.undone_at.is_(None)
        ).correlate(invoice)
    )


def concerned(number: Any, run_id: str) -> ColumnElement[bool]:
    """Return the condition that an id is of an invoice that a run made, or moved."""
    of_it = select(literal(1)).select_from(RANGE).where(in_range(number), RANGE.c.run_id == run_id)
    return exists(of_it.correlate_except(RANGE))


def changed_by(connection: Connection, runs: Sequence[str]) -> list[Row[Any]]:
    """Return the runs that later changed what some runs made, or changed again what they changed.

    Args:
        connection: on a Chinook with a ledger of changes.
        runs: the runs.

    Returns:
        run_id, kind and key of each run that is not undone and not one of these.
    """
    other, earlier = RUN.alias(), CHANGE.alias()
    found = select(other.c.run_id, other.c.kind, other.c.key)
    # A batch changes invoices before it makes its own, so none of its own. From the sales to their
    # changes, by index: there may be many of either.
    of_its_sales = (
        found.select_from(RANGE)
        .join(CHANGE, (CHANGE.c.subject == "invoice") & in_range(CHANGE.c.subject_id))
        .join(other, other.c.run_id == CHANGE.c.run_id)
        .where(of_runs(connection, RANGE.c.run_id, runs))
    )
    again = (
        found.select_from(earlier)
        .join(
            CHANGE,
            (CHANGE.c.subject == earlier.c.subject)
            & (CHANGE.c.subject_id == earlier.c.subject_id)
            & (CHANGE.c.change_id > earlier.c.change_id),
        )
        .join(other, other.c.run_id == CHANGE.c.run_id)
        .where(of_runs(connection, earlier.c.run_id, runs))
    )
    standing = other.c.undone_at.is_(None), ~of_runs(connection, other.c.run_id, runs)
    return list(connection.execute(of_its_sales.where(*standing).union(again.where(*standing))))


def in_range(number: Any) -> ColumnElement[bool]:
    """Return the condition that an invoice id is in a row of `RunInvoices`."""
    condition: ColumnElement[bool] = number.between(RANGE.c.first_id, RANGE.c.last_id) & (
        (number - RANGE.c.first_id) % RANGE.c.step == 0
    )
    return condition


def baseline(connection: Connection) -> int:
    """Return the highest invoice id there was before us; 0 where there was no invoice."""
    highest = select(RUN.c.last_invoice_id).where(RUN.c.kind == BASELINE)
    return connection.scalar(highest) or 0


def stream_name() -> str:
    """Return a name for a stream that no other has."""
    return f"{STREAM}{uuid4().hex[: STREAM_LENGTH - len(STREAM)]}"


class Stream(NamedTuple):
    """All runs of a stream, undone or not: how many, from which day on, and what they made."""

    runs: int
    day: date
    sales: int
    lines: int
    revenue: Decimal


def stream_of(connection: Connection, name: str) -> Stream:
    """Return what there is of a stream.

    Raises:
        InvalidInput: there is none of that name.
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
    """Return run_id and sales of a stream's runs that stand, the latest first, and lock them."""
    # Longer numbers are higher ones; and no more columns, as there may be very many runs.
    latest = func.length(RUN.c.key).desc(), RUN.c.key.desc()
    question = select(RUN.c.run_id, RUN.c.sales).where(*_of_stream(name), RUN.c.undone_at.is_(None))
    return list(connection.execute(question.order_by(*latest).with_for_update()))


def _of_stream(name: str) -> tuple[ColumnElement[bool], ...]:
    return RUN.c.kind == LIVE, RUN.c.key.startswith(f"{name}/", autoescape=True)


def mark_undone(connection: Connection, *runs: str) -> None:
    """Note in the ledger that runs were taken out again, which frees their keys."""
    these = of_runs(connection, RUN.c.run_id, runs)
    _write(connection, update(RUN).where(these).values(undone_at=func.current_timestamp()))


def set_baseline(connection: Connection) -> None:
    """Note that all invoices there are now were there before anything was simulated."""
    highest = select(func.max(Invoice.invoice_id)).scalar_subquery()
    connection.execute(update(RUN).where(RUN.c.kind == BASELINE).values(last_invoice_id=highest))
