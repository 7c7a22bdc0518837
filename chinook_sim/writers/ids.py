"""Ids for new invoices and lines, without a race, on every Chinook there is.

Where a sequence gives them, `nextval` reserves them; it is the only way to read a sequence that
no other session can come between. Where nothing gives them, the table's highest id is read under
a lock, and read by a statement of its own after the lock is held: a statement that does both, like
one that runs on a snapshot from before the lock, sees ids of before and takes them again.

A sequence can be behind its table, after a restore or a writer who chose ids. That is seen before
anything is taken, and the sequence moved forward: by `nextval`, which cannot go back whoever else
uses the sequence; over a gap too wide for that by `setval`, which could, if somebody crossed the
whole gap between our look and our step.

A column may have any other default: an expression of `nextval`, or a function of the owner's. It is
evaluated once for each row before the rows are written, and nothing is known of its next ids.

A sequence never gives an id twice. Elsewhere the highest id is not enough, as its row may have been
deleted: the ledger knows the invoices of all runs, undone ones too, and what was cancelled; and
`remember` notes the highest ids before `undo` deletes rows, as lines are in the ledger nowhere.
"""

from __future__ import annotations

import json
from functools import lru_cache
from typing import TYPE_CHECKING, Any, NamedTuple

from sqlalchemy import bindparam, column, func, null, select, text, update

from chinook_sim.batch import IdRanges
from chinook_sim.errors import BatchFailed, IdsExhausted
from chinook_sim.ledger import BASELINE
from chinook_sim.models import Change, Customer, Invoice, InvoiceLine, Run, RunInvoices
from chinook_sim.naming import quoted, sql_text
from chinook_sim.rights import INSUFFICIENT_PRIVILEGE, grants

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sqlalchemy import Connection, Select

    from chinook_sim.naming import Chinook, IdSource

__all__ = ["ID_LOCK", "allocate", "allocate_customers", "catch_up", "hold", "remember"]

ID_LOCK = 0x6368696E6F6F6B
"""Key of the advisory lock ("chinook" in ASCII) that everything of ours, the SQL functions too,
holds until the end of its transaction when it takes ids by MAX or moves a sequence forward."""

STEPS = 1_000_000
"""The widest gap that is crossed by `nextval`: less than a second of work."""

OVERLAPPING = 100
"""Ranges of the ledger that are read for its highest invoice: those that begin last. One would do,
but for streams that sold at the same time, whose merged ranges overlap."""

_GIVEN = "given"
"""Where the parameters of the ledger's first row have what `remember` noted, by table."""


class _Wanted(NamedTuple):
    """How many ids of a table are wanted, and where they come from."""

    table: Any
    source: IdSource
    needed: int


def allocate(
    connection: Connection, chinook: Chinook, *, invoices: int, lines: int
) -> tuple[IdRanges, IdRanges]:
    """Reserve ids for invoices and for their lines, for this transaction alone.

    Raises:
        IdsExhausted: a table has fewer ids left; none were taken.
    """
    wanted = (
        _Wanted(Invoice.__table__, chinook.invoice_ids, invoices),
        _Wanted(InvoiceLine.__table__, chinook.line_ids, lines),
    )
    first, second = _allocate(connection, chinook, wanted)
    return first, second


def allocate_customers(connection: Connection, chinook: Chinook, count: int) -> IdRanges:
    """Reserve ids for customers; see `allocate`."""
    wanted = _Wanted(Customer.__table__, chinook.customer_ids, count)
    (ids,) = _allocate(connection, chinook, [wanted])
    return ids


def _allocate(
    connection: Connection, chinook: Chinook, wanted: Sequence[_Wanted]
) -> list[IdRanges]:
    known = [it for it in wanted if it.source.kind != "expression"]
    taken = dict(zip(known, _reserve(connection, chinook, known), strict=True)) if known else {}
    return [taken[it] if it in taken else _evaluate(connection, it) for it in wanted]


def _evaluate(connection: Connection, wanted: _Wanted) -> IdRanges:
    """Return ids from the default of a column, which may be anything, before rows are written."""
    table, source, count = wanted
    name = quoted(connection, table)
    # Without parameters, as pg8000 would take a percent sign in the expression for one.
    evaluated = f"SELECT ({source.expression}) AS id FROM generate_series(1, {count})"  # noqa: S608
    found = connection.scalars(sql_text(evaluated)).all()
    ids = sorted({int(it) for it in found if it is not None})
    if len(ids) < count:
        raise BatchFailed(
            f"the batch failed and nothing was written: the default of the id of {name} gave only "
            f"{len(ids)} different values for {count} rows: {source.expression}"
        )
    if count and ids[-1] > source.limit:
        raise _exhausted(name, source, count, sum(it <= source.limit for it in ids))
    return IdRanges.of(ids)


def _exhausted(name: str, source: IdSource, needed: int, left: int) -> IdsExhausted:
    widen = (
        f"run: ALTER SEQUENCE {source.sequence} AS bigint NO MAXVALUE"
        if source.bounded
        else f"widen the id column of {name} to BIGINT"
    )
    return IdsExhausted(
        f"{name} has {left} ids left and the batch needs {needed}; "
        f"make a smaller batch, or {widen}",
        table=name,
        needed=needed,
        left=left,
    )


def _reserve(connection: Connection, chinook: Chinook, wanted: Sequence[_Wanted]) -> list[IdRanges]:
    sequences = [it for it in wanted if it.source.kind == "sequence"]
    if all(it in sequences and it.source.readable for it in wanted):
        taken = _take(connection, wanted, looking=True)
        if taken:
            return taken
    if any(source.kind == "none" for _, source, _ in wanted):
        _lock(connection, wanted)
    # All are looked at before any is taken: what nextval gave is gone, also after a rollback.
    last = _positions(connection, chinook, wanted)
    for it, position in zip(wanted, last, strict=True):
        source, count = it.source, _taken_together(wanted, it)
        left = max((source.limit - position) // source.increment, 0)
        if count > left:
            raise _exhausted(quoted(connection, it.table), source, count, left)
    taken = _take(connection, sequences, looking=False) if sequences else []
    return [
        taken[sequences.index(it)]
        if it in sequences
        else IdRanges([range(position + 1, position + 1 + it.needed)])
        for it, position in zip(wanted, last, strict=True)
    ]


def _taken_together(wanted: Sequence[_Wanted], one: _Wanted) -> int:
    """Return how many ids are taken from where those of a table come from."""
    if one.source.sequence is None:
        return one.needed
    return sum(it.needed for it in wanted if it.source.sequence == one.source.sequence)


def _lock(connection: Connection, wanted: Sequence[_Wanted]) -> None:
    _lock_ids(connection)
    # The advisory lock needs no right but holds off only what asks for it. Where we may, we also
    # hold off writers that know nothing of us; readers are not held up.
    lockable = [
        table
        for table, source, _ in wanted
        # Who changes a customer shall not wait for a batch to end.
        if source.kind == "none" and source.lockable and table is not Customer.__table__
    ]
    if lockable:
        names = quoted(connection, *lockable)
        connection.execute(sql_text(f"LOCK TABLE {names} IN SHARE ROW EXCLUSIVE MODE"))


def _lock_ids(connection: Connection) -> None:
    connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": ID_LOCK})


def hold(connection: Connection, chinook: Chinook) -> None:
    """Take the locks that ids are read under, where they are; `allocate` would take them later.

    Whoever is going to lock rows of the shop takes these first, as two who did it the other way
    round could wait for each other.
    """
    wanted = (
        _Wanted(Invoice.__table__, chinook.invoice_ids, 0),
        _Wanted(InvoiceLine.__table__, chinook.line_ids, 0),
    )
    if any(source.kind == "none" for _, source, _ in wanted):
        _lock(connection, wanted)


def catch_up(connection: Connection, chinook: Chinook) -> None:
    """Move the sequences that are behind their tables forward, where ids are left to them."""
    _positions(
        connection,
        chinook,
        (
            _Wanted(Invoice.__table__, chinook.invoice_ids, 1),
            _Wanted(InvoiceLine.__table__, chinook.line_ids, 1),
        ),
    )


def _positions(connection: Connection, chinook: Chinook, wanted: Sequence[_Wanted]) -> list[int]:
    """Return the id after which each table's next ones come; sequences that are behind catch up."""
    seen = _look(connection, chinook, wanted)
    if any(source.kind == "sequence" and (last or 0) < high for source, high, last in seen):
        # Another process of ours may be at it; whoever comes second finds the work done.
        _lock_ids(connection)
        for source, high, last in _look(connection, chinook, wanted):
            if source.kind == "sequence" and (last or 0) < high:
                _move_forward(connection, source, high, last)
        seen = _look(connection, chinook, wanted)
    return [max(high, last or 0) for _, high, last in seen]


class _Seen(NamedTuple):
    """The highest id of a table that is known, 0 for none, and the last that its source gave.

    The last is None if it is not known.
    """

    source: IdSource
    highest: int
    last: int | None


def _look(connection: Connection, chinook: Chinook, wanted: Sequence[_Wanted]) -> list[_Seen]:
    names: list[str | None] = [None] * len(wanted)
    if any(source.kind == "rowid" for _, source, _ in wanted) and connection.scalar(
        text("SELECT 1 FROM sqlite_master WHERE name = 'sqlite_sequence'")
    ):
        names = [quoted(connection, table).strip('"').lower() for table, _, _ in wanted]
    sources = tuple(
        (table, source, name) for (table, source, _), name in zip(wanted, names, strict=True)
    )
    parameters, *found = connection.execute(_question(sources, ledger=chinook.ledger)).one()
    noted = json.loads(parameters or "{}").get(_GIVEN, {})
    return [
        _Seen(source, max(it or 0 for it in (highest, *known, noted.get(table.name))), last)
        for (table, source, _), highest, last, *known in zip(
            wanted, found[::4], found[1::4], found[2::4], found[3::4], strict=True
        )
    ]


# `SaleFactory.create` asks for each sale, and the answer takes less than making the statement.
@lru_cache(maxsize=64)
def _question(
    sources: tuple[tuple[Any, IdSource, str | None], ...], *, ledger: bool
) -> Select[Any]:
    """Return the statement that reads how far ids have been given.

    Args:
        sources: tables, where their ids come from, and their names in `sqlite_sequence`, if any.
        ledger: whether there is one.

    Returns:
        One row: the parameters with what `remember` noted; for each table its highest id, the last
        that its source gave, and two that the ledger has.
    """
    given = ledger and any(source.counted for _, source, _ in sources)
    noted = select(Run.parameters).where(Run.run_id == BASELINE).scalar_subquery()
    columns: list[Any] = [noted if given else null()]
    for table, source, name in sources:
        (key,) = table.primary_key.columns
        readable = source.counted or (source.kind == "sequence" and source.readable)
        columns.append(select(func.max(key)).scalar_subquery() if readable else null())
        # Read after the highest id, whose snapshot is older: what was given meanwhile is no lag.
        columns.append(_last(source, name))
        recorded = ledger and source.counted
        columns += _recorded(table) if recorded else (null(), null())
    return select(*columns)


def _last(source: IdSource, name: str | None) -> Any:
    if source.kind == "sequence":
        return func.pg_sequence_last_value(func.to_regclass(source.sequence))
    if name is None:
        return null()
    # SQLite promised never to give these again; the highest may be a deleted row's.
    kept = text("SELECT max(seq) FROM sqlite_sequence WHERE lower(name) = :name")
    bound: Any = bindparam("name", name, unique=True)
    return kept.bindparams(bound).columns(column("seq")).scalar_subquery()


def _recorded(table: Any) -> tuple[Any, Any]:
    """Return the highest ids that the ledger has: of what was changed, and of what runs made.

    So a pipeline that has not yet heard of a cancellation does not take a new sale for the old one,
    and the old one can be put back.
    """
    if table is InvoiceLine.__table__:
        return select(func.max(Change.last_line_id)).scalar_subquery(), null()
    subject = "customer" if table is Customer.__table__ else "invoice"
    changed = select(func.max(Change.subject_id)).where(Change.subject == subject)
    made: Any = null()
    if table is Invoice.__table__:
        last = select(RunInvoices.last_id).order_by(RunInvoices.first_id.desc()).limit(OVERLAPPING)
        made = select(func.max(last.subquery().c.last_id)).scalar_subquery()
    return changed.scalar_subquery(), made


def remember(connection: Connection, chinook: Chinook) -> None:
    """Note the highest ids of invoices and lines in the ledger, so that they are not given again.

    Args:
        connection: in a transaction that is going to delete rows that runs made.
        chinook: what was recognised, with a ledger.
    """
    keys = {
        table.name: table.primary_key.columns[0]
        for table, source in (
            (Invoice.__table__, chinook.invoice_ids),
            (InvoiceLine.__table__, chinook.line_ids),
        )
        if source.counted
    }
    if not keys:
        return
    highest = [select(func.max(key)).scalar_subquery() for key in keys.values()]
    row = Run.run_id == BASELINE
    # Locked, as another transaction may be noting something.
    found = connection.execute(select(Run.parameters, *highest).where(row).with_for_update())
    for text_, *last in found:
        parameters = json.loads(text_)
        noted = parameters.get(_GIVEN, {})
        parameters[_GIVEN] = {
            name: max(number or 0, noted.get(name, 0))
            for name, number in zip(keys, last, strict=True)
        }
        connection.execute(update(Run).where(row).values(parameters=json.dumps(parameters)))


def _move_forward(connection: Connection, source: IdSource, highest: int, last: int | None) -> None:
    """Move a sequence forward, so that its next id comes after the highest there is."""
    name = func.to_regclass(source.sequence)
    if last is None:
        # It was restarted: where it stands is only known from what it gives.
        last = int(connection.scalar(select(func.nextval(name))) or 0)
    steps = -(-(highest - last) // source.increment)
    if steps > STEPS:
        lacking = grants(connection, [("UPDATE", f"SEQUENCE {source.sequence}")])
        if lacking:
            raise BatchFailed(
                f"the batch failed and nothing was written: {source.sequence} is far behind its "
                f"table; {lacking}",
                sqlstate=INSUFFICIENT_PRIVILEGE,
            )
        connection.execute(select(func.setval(name, highest)))
    elif steps > 0:
        series = func.generate_series(1, steps).table_valued("n")
        connection.execute(select(func.count(func.nextval(name))).select_from(series))


def _take(connection: Connection, wanted: Sequence[_Wanted], *, looking: bool) -> list[IdRanges]:
    """Take ids from sequences, all in one round trip.

    Another session may take some in between, so they come as islands of consecutive ids: nearly
    always one for each sequence. If it is to look first, and one sequence is behind its table or
    has too few ids left, nothing is taken, and nothing returned.
    """
    seen, sound, taken = [], [], []
    values: dict[str, object] = {}
    for place, (table, source, count) in enumerate(wanted):
        (key,) = table.primary_key.columns
        sequence = f"CAST(:sequence{place} AS regclass)"
        # The sequence is read after the highest id, whose snapshot is older: what was given
        # meanwhile is no lag.
        highest = f"SELECT max(r.{quoted(connection, key.name)}) FROM {quoted(connection, table)} r"  # noqa: S608
        seen += [
            f"coalesce(({highest}), 0) AS highest{place}",
            f"coalesce(pg_sequence_last_value({sequence}), 0) AS last{place}",
        ]
        sound += [f"highest{place} <= last{place}", f"last{place} <= :most{place}"]
        given = f"SELECT generate_series(1, CAST(:count{place} AS bigint)) AS n"
        if looking:
            given += " WHERE (SELECT yes FROM sound)"
            together = _taken_together(wanted, wanted[place])
            values[f"most{place}"] = source.limit - together * source.increment
        taken.append(
            f"SELECT {place} AS which, min(id) AS low, max(id) AS high "  # noqa: S608
            f"FROM (SELECT nextval({sequence}) AS id, n FROM ({given}) g OFFSET 0) t "
            f"GROUP BY id - n * :step{place}"
        )
        values |= {
            f"sequence{place}": source.sequence,
            f"step{place}": source.increment,
            f"count{place}": count,
        }
    look = (
        f"WITH seen AS MATERIALIZED (SELECT {', '.join(seen)}), "  # noqa: S608
        f"sound AS MATERIALIZED (SELECT {' AND '.join(sound)} AS yes FROM seen) "
    )
    islands = connection.execute(
        sql_text(f"{look if looking else ''}{' UNION ALL '.join(taken)} ORDER BY which, low"),
        values,
    ).all()
    if looking and not islands:
        return []
    found: list[list[range]] = [[] for _ in wanted]
    for which, low, high in islands:
        found[which].append(range(low, high + 1, wanted[which].source.increment))
    return list(map(IdRanges, found))
