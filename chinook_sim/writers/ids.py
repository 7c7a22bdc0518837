"""Ids for new invoices and lines, without a race, on every Chinook there is.

Where a sequence gives them, `nextval` reserves them; it is the only way to read a sequence that
no other session can come between. Where nothing gives them, the table's highest id is read under
a lock, and read by a statement of its own after the lock is held: a statement that does both, like
one that runs on a snapshot from before the lock, sees ids of before and takes them again.

A sequence can be behind its table, after a restore or a writer who chose ids. That is seen before
anything is taken, and the sequence moved forward: by `nextval`, which cannot go back whoever else
uses the sequence; over a gap too wide for that by `setval`, which could, if somebody crossed the
whole gap between our look and our step.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from sqlalchemy import bindparam, column, func, null, select, text

from chinook_sim.batch import IdRanges
from chinook_sim.errors import BatchFailed, IdsExhausted
from chinook_sim.models import Change, Customer, Invoice, InvoiceLine
from chinook_sim.naming import quoted, sql_text
from chinook_sim.rights import INSUFFICIENT_PRIVILEGE, grants

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sqlalchemy import Connection, Table

    from chinook_sim.naming import Chinook, IdSource

__all__ = ["ID_LOCK", "allocate", "allocate_customers", "catch_up", "hold"]

ID_LOCK = 0x6368696E6F6F6B
"""Key of the advisory lock ("chinook" in ASCII) that everything of ours, the SQL functions too,
holds until the end of its transaction when it takes ids by MAX or moves a sequence forward."""

STEPS = 1_000_000
"""The widest gap that is crossed by `nextval`: less than a second of work."""


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
    sequences = [it for it in wanted if it.source.kind == "sequence"]
    if all(it in sequences and it.source.readable for it in wanted):
        taken = _take(connection, wanted, looking=True)
        if taken:
            return taken
    if any(source.kind == "none" for _, source, _ in wanted):
        _lock(connection, wanted)
    # All are looked at before any is taken: what nextval gave is gone, also after a rollback.
    last = _positions(connection, chinook, wanted)
    for (table, source, count), position in zip(wanted, last, strict=True):
        left = max((source.limit - position) // source.increment, 0)
        if count > left:
            name = quoted(connection, table)
            raise IdsExhausted(
                f"{name} has {left} ids left and the batch needs {count}; "
                f"make a smaller batch, or widen the id column of {name} to BIGINT",
                table=name,
                needed=count,
                left=left,
            )
    taken = _take(connection, sequences, looking=False) if sequences else []
    return [
        taken[sequences.index(it)]
        if it in sequences
        else IdRanges([range(position + 1, position + 1 + it.needed)])
        for it, position in zip(wanted, last, strict=True)
    ]


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
    """The highest id of a table, 0 for none, and the last its source gave, None for not known."""

    source: IdSource
    highest: int
    last: int | None


def _look(connection: Connection, chinook: Chinook, wanted: Sequence[_Wanted]) -> list[_Seen]:
    columns = []
    for table, source, _ in wanted:
        (key,) = table.primary_key.columns
        readable = source.kind != "sequence" or source.readable
        columns.append(select(func.max(key)).scalar_subquery() if readable else null())
        # Read after the highest id, whose snapshot is older: what was given meanwhile is no lag.
        columns.append(_last(connection, table, source))
        columns.append(_cancelled(chinook, table, source))
    row = connection.execute(select(*columns)).one()
    return [
        _Seen(source, max(int(highest or 0), cancelled or 0), last)
        for (_, source, _), highest, last, cancelled in zip(
            wanted, row[::3], row[1::3], row[2::3], strict=True
        )
    ]


def _last(connection: Connection, table: Table, source: IdSource) -> Any:
    if source.kind == "sequence":
        return func.pg_sequence_last_value(func.to_regclass(source.sequence))
    if source.kind == "rowid" and connection.scalar(
        text("SELECT 1 FROM sqlite_master WHERE name = 'sqlite_sequence'")
    ):
        # SQLite promised never to give these again; the highest may be a deleted row's.
        name = quoted(connection, table).strip('"').lower()
        kept = text("SELECT max(seq) FROM sqlite_sequence WHERE lower(name) = :name")
        given: Any = bindparam("name", name, unique=True)
        return kept.bindparams(given).columns(column("seq")).scalar_subquery()
    return null()


def _cancelled(chinook: Chinook, table: Table, source: IdSource) -> Any:
    """Return the highest id of a row that a run cancelled: never given again, as with a sequence.

    So a pipeline that has not yet heard of the cancellation does not take a new sale for the old
    one, and the old one can be put back.
    """
    if source.kind == "sequence" or not chinook.ledger or table is Customer.__table__:
        return null()
    if table is InvoiceLine.__table__:
        return select(func.max(Change.last_line_id)).scalar_subquery()
    ids = select(func.max(Change.subject_id)).where(Change.subject == "invoice")
    return ids.scalar_subquery()


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
            values[f"most{place}"] = source.limit - count * source.increment
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
    if not islands:
        return []
    found: list[list[range]] = [[] for _ in wanted]
    for which, low, high in islands:
        found[which].append(range(low, high + 1, wanted[which].source.increment))
    return list(map(IdRanges, found))
