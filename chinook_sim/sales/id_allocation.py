"""Ids for new invoices and lines, without a race.

If a sequence gives them, `nextval` reserves them; no other session can come between. If nothing
gives them, the highest id of the table is read under a lock, by a statement of its own after the
lock is held: a statement that locks and reads uses a snapshot from before the lock, and would take
ids that were just given.

A sequence can be behind its table, after a restore or a writer who chose ids. That is found before
anything is taken, and the sequence is advanced: by `nextval`, which cannot go back whoever else
uses the sequence; over a very wide gap by `setval`, which goes back only if somebody crosses the
whole gap between the two statements.

A column may have any other default: an expression of `nextval`, or a function of the owner's. It is
evaluated once for each row before the rows are written. Its next ids are not known.

A sequence never gives an id twice. Elsewhere the highest id is not enough, since its row may have
been deleted. The ledger knows the invoices of all runs, undone ones too, and what was cancelled.
`record_highest_ids` is called before `undo` deletes rows, since the ledger has no ids of lines.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from chinook_sim.database.identifiers import quoted, sql_text
from chinook_sim.database.schema import LARGEST_ID
from chinook_sim.errors import BatchFailed, IdsExhausted
from chinook_sim.models import Customer, Invoice, InvoiceLine
from chinook_sim.sales.id_positions import Wanted, lock_ids, positions_of
from chinook_sim.sales.id_ranges import IdRanges

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sqlalchemy import Connection

    from chinook_sim.database.schema import Chinook, IdSource

__all__ = ["allocate", "allocate_customers", "lock_id_allocation"]


def allocate(
    connection: Connection, chinook: Chinook, *, invoices: int, lines: int
) -> tuple[IdRanges, IdRanges]:
    """Reserve ids for invoices and for their lines, for this transaction alone.

    Raises:
        IdsExhausted: a table has fewer ids left; none were taken.
    """
    wanted = (
        Wanted(Invoice.__table__, chinook.invoice_ids, invoices),
        Wanted(InvoiceLine.__table__, chinook.line_ids, lines),
    )
    first, second = _allocate(connection, chinook, wanted)
    return first, second


def allocate_customers(connection: Connection, chinook: Chinook, count: int) -> IdRanges:
    """Reserve ids for customers; see `allocate`."""
    wanted = Wanted(Customer.__table__, chinook.customer_ids, count)
    (ids,) = _allocate(connection, chinook, [wanted])
    return ids


def _allocate(connection: Connection, chinook: Chinook, wanted: Sequence[Wanted]) -> list[IdRanges]:
    known = [it for it in wanted if it.source.kind != "expression"]
    taken = dict(zip(known, _reserve(connection, chinook, known), strict=True)) if known else {}
    return [taken[it] if it in taken else _evaluate(connection, it) for it in wanted]


def _evaluate(connection: Connection, wanted: Wanted) -> IdRanges:
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
    widen = f", or widen the id column of {name} to BIGINT"
    if source.bounded:
        widen = f", or run: ALTER SEQUENCE {source.sequence} AS bigint NO MAXVALUE"
    elif source.limit == LARGEST_ID:
        widen = ""
    return IdsExhausted(
        f"{name} has {left} ids left and the batch needs {needed}; make a smaller batch{widen}",
        table=name,
        needed=needed,
        left=left,
    )


def _reserve(connection: Connection, chinook: Chinook, wanted: Sequence[Wanted]) -> list[IdRanges]:
    sequences = [it for it in wanted if it.source.kind == "sequence"]
    if all(it in sequences and it.source.readable for it in wanted):
        taken = _reserve_from_sequences(connection, wanted, check_first=True)
        if taken:
            return taken
    if any(source.kind == "none" for _, source, _ in wanted):
        _lock(connection, wanted)
    # All are checked before any is taken: what nextval returned is gone, also after a rollback.
    last = positions_of(connection, chinook, wanted)
    for it, position in zip(wanted, last, strict=True):
        source, count = it.source, _taken_together(wanted, it)
        left = max((source.limit - position) // source.increment, 0)
        if count > left:
            raise _exhausted(quoted(connection, it.table), source, count, left)
    taken = _reserve_from_sequences(connection, sequences, check_first=False) if sequences else []
    return [
        taken[sequences.index(it)]
        if it in sequences
        else IdRanges([range(position + 1, position + 1 + it.needed)])
        for it, position in zip(wanted, last, strict=True)
    ]


def _taken_together(wanted: Sequence[Wanted], one: Wanted) -> int:
    """Return how many ids are taken from where those of a table come from."""
    if one.source.sequence is None:
        return one.needed
    return sum(it.needed for it in wanted if it.source.sequence == one.source.sequence)


def _lock(connection: Connection, wanted: Sequence[Wanted]) -> None:
    lock_ids(connection)
    # The advisory lock needs no privilege, but holds off only those that take it. If possible,
    # other writers are held off too; readers are not.
    lockable = [
        table
        for table, source, _ in wanted
        # Changes of customers must not wait for the end of a batch.
        if source.kind == "none" and source.lockable and table is not Customer.__table__
    ]
    if lockable:
        names = quoted(connection, *lockable)
        connection.execute(sql_text(f"LOCK TABLE {names} IN SHARE ROW EXCLUSIVE MODE"))


def lock_id_allocation(connection: Connection, chinook: Chinook) -> None:
    """Take the locks that ids are read under, where they are; `allocate` would take them later.

    Whoever is going to lock rows of the shop takes these first, as two who did it the other way
    round could wait for each other.
    """
    wanted = (
        Wanted(Invoice.__table__, chinook.invoice_ids, 0),
        Wanted(InvoiceLine.__table__, chinook.line_ids, 0),
    )
    if any(source.kind == "none" for _, source, _ in wanted):
        _lock(connection, wanted)


def _reserve_from_sequences(
    connection: Connection, wanted: Sequence[Wanted], *, check_first: bool
) -> list[IdRanges]:
    """Take ids from sequences, all in one round trip.

    Another session may take some in between, so they come as islands of consecutive ids: nearly
    always one for each sequence. With check_first, nothing is taken and an empty list is returned
    if a sequence is behind its table or has too few ids left.
    """
    seen, conditions, taken = [], [], []
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
        conditions += [f"highest{place} <= last{place}", f"last{place} <= :most{place}"]
        given = f"SELECT generate_series(1, CAST(:count{place} AS bigint)) AS n"
        if check_first:
            given += " WHERE (SELECT yes FROM valid)"
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
    check = (
        f"WITH seen AS MATERIALIZED (SELECT {', '.join(seen)}), "  # noqa: S608
        f"valid AS MATERIALIZED (SELECT {' AND '.join(conditions)} AS yes FROM seen) "
    )
    islands = connection.execute(
        sql_text(f"{check if check_first else ''}{' UNION ALL '.join(taken)} ORDER BY which, low"),
        values,
    ).all()
    if check_first and not islands:
        return []
    found: list[list[range]] = [[] for _ in wanted]
    for which, low, high in islands:
        found[which].append(range(low, high + 1, wanted[which].source.increment))
    return list(map(IdRanges, found))
